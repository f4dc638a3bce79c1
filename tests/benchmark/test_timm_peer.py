"""timm's counterparts and the process that runs them."""

import contextlib

import pytest

from nfnets import errors
from nfnets.benchmark import child, programs, timm_peer

WORKLOAD = programs.Workload('nfnet_f0', 32, 2, 'float32')


@pytest.mark.parametrize(
  ('name', 'peer'),
  [
    ('nfnet_f0', 'dm_nfnet_f0'),
    ('nf_resnet50', 'nf_resnet50'),
    ('eca_nfnet_l0', 'eca_nfnet_l0'),
    ('timm_nf_regnet_b0', 'nf_regnet_b0'),
  ],
)
def test_counterparts(name, peer):
  assert timm_peer.counterpart(name) == peer


@pytest.mark.parametrize('name', ['nfnet_f0+', 'nf_regnet_b8', 'nf_resnet600'])
def test_model_without_a_counterpart_raises(name):
  with pytest.raises(errors.UserError, match=name.replace('+', r'\+')):
    timm_peer.counterpart(name)


@pytest.mark.parametrize(
  ('platform', 'device', 'layouts'),
  [
    ('cpu', 'cpu', ['contiguous', 'channels_last']),
    ('gpu', 'cuda', ['channels_last']),
  ],
)
def test_every_kind_in_the_layouts_of_the_device(
  platform, device, layouts, monkeypatch
):
  @contextlib.contextmanager
  def started(peer, module, arguments, calls):
    assert arguments == ('dm_nfnet_f0', 32, 2, 'float32', device)
    yield dict.fromkeys(calls)

  monkeypatch.setattr(child, 'started', started)
  with timm_peer.started(WORKLOAD, platform) as contestants:
    assert list(contestants) == [
      f'{kind} {layout}'
      for kind in ('forward', 'train_step', 'train_step without AGC')
      for layout in layouts
    ]


def test_other_platforms_raise():
  with pytest.raises(errors.UserError, match='does not run on tpu'):
    with timm_peer.started(WORKLOAD, 'tpu'):
      pass


@pytest.mark.slow
def test_timm_runs():
  pytest.importorskip('torch')
  workload = WORKLOAD._replace(model='test_nfnet')
  with timm_peer.started(workload, 'cpu') as contestants:
    assert len(contestants) == 6
    for run in contestants.values():
      assert run(2) > 0
