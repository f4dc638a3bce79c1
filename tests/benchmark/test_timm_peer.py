"""timm's counterparts and the process that runs them."""

import pytest

from nfnets import errors
from nfnets.benchmark import timm_peer


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


def fake_python(tmp_path, monkeypatch, script):
  """Replaces the interpreter that runs the child by a shell script."""
  path = tmp_path / 'python'
  path.write_text(f'#!/bin/sh\n{script}\n')
  path.chmod(0o755)
  monkeypatch.setattr('sys.executable', str(path))


def test_peer_that_fails_raises_with_its_last_line(tmp_path, monkeypatch):
  fake_python(tmp_path, monkeypatch, 'echo no torch here >&2\nexit 1')
  with pytest.raises(errors.UserError, match='no torch here'):
    with timm_peer.started('nfnet_f0', 32, 1, 'float32'):
      pass


def test_peer_answers_each_request_with_its_seconds(tmp_path, monkeypatch):
  # The seconds are the number of letters of the request.
  script = 'while read -r line; do echo ${#line}; done'
  fake_python(tmp_path, monkeypatch, script)
  with timm_peer.started('nfnet_f0', 32, 1, 'float32') as contestants:
    seconds = {name: run() for name, run in contestants.items()}
  assert seconds == {
    f'timm {request}': len(request)
    for request in (
      'forward contiguous',
      'forward channels_last',
      'train_step contiguous',
      'train_step channels_last',
    )
  }


@pytest.mark.slow
def test_timm_runs():
  pytest.importorskip('torch')
  with timm_peer.started('test_nfnet', 32, 2, 'float32') as contestants:
    assert len(contestants) == 4
    for run in contestants.values():
      assert run() > 0
