"""python -m nfnets.models: the table, and the literals in it."""

import math
import sys

import pytest

from nfnets import errors, models
from nfnets.analysis import macs
from nfnets.models import __main__ as main
from nfnets.models import catalogue
from nfnets.weights import hub, timm_names, tree

_QUICK = (
  'nfnet_f0',
  'nf_resnet50',
  'nf_regnet_b0',
  'eca_nfnet_l0',
  'test_nfnet',
)


def _run(monkeypatch, capsys, *arguments):
  monkeypatch.setattr(sys, 'argv', ['models', *arguments])
  main.main()
  return capsys.readouterr().out


def test_lists_every_model_and_says_which_have_weights(monkeypatch, capsys):
  lines = _run(monkeypatch, capsys).splitlines()
  rows = {line.split()[1]: line for line in lines if line.startswith('│')}
  assert list(rows) == models.list_models()
  assert '71.489' in rows['nfnet_f0'] and '12.384' in rows['nfnet_f0']
  assert '83.6' in rows['nfnet_f0'] and 'F0_haiku.npz' in rows['nfnet_f0']
  for name in ('nfnet_f7', 'nfnet_f4+', 'nf_resnet50', 'timm_nf_regnet_b0'):
    assert 'none published' in rows[name]


def test_names_and_patterns(monkeypatch, capsys):
  out = _run(monkeypatch, capsys, 'nfnet_f0', 'nf_regnet_b[01]')
  assert out.count('nf_regnet_b') == 2 and 'nfnet_f1' not in out
  with pytest.raises(errors.UserError, match='nfnet_g0'):
    _run(monkeypatch, capsys, 'nfnet_g0')


def _count(name):
  model = models.create_model(name)
  config = model.config
  params = tree.expected(config).params
  (features,) = (
    x.shape[0]
    for path, x in params.items()
    if tree.is_head(path) and len(x.shape) == 2
  )
  return catalogue.Row(
    sum(math.prod(x.shape) for x in params.values()),
    len(params),
    features,
    macs.model_macs(model, config.train_size),
    macs.model_macs(model, config.test_size),
  )


@pytest.mark.parametrize('name', _QUICK)
def test_literals_are_what_is_counted(name):
  assert catalogue.ROWS[name] == _count(name)


@pytest.mark.slow
@pytest.mark.parametrize('name', models.list_models())
def test_all_literals_are_what_is_counted(name):
  assert catalogue.ROWS[name] == _count(name)


def test_every_model_has_a_row_and_every_id_is_its_own():
  assert list(catalogue.ROWS) == models.list_models()
  for name, published in catalogue.PUBLISHED.items():
    identifier = published.weights.split('; ')[-1]
    assert timm_names.our_name(hub.model_name(identifier)) == name
