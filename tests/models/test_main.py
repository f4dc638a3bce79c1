"""python -m nfnets.models: the table that it prints."""

import sys

import pytest

from nfnets import errors, models
from nfnets.models import __main__ as main


def _run(monkeypatch, capsys, *arguments):
  monkeypatch.setattr(sys, 'argv', ['models', *arguments])
  main.main()
  return capsys.readouterr().out


def test_lists_every_model_and_its_published_weights(monkeypatch, capsys):
  lines = _run(monkeypatch, capsys).splitlines()
  rows = {line.split()[1]: line for line in lines if line.startswith('│')}
  assert list(rows) == models.list_models()
  assert '71.489' in rows['nfnet_f0'] and '12.384' in rows['nfnet_f0']
  assert '83.6' in rows['nfnet_f0']
  assert 'F0_haiku.npz; timm/dm_nfnet_f0.dm_in1k' in rows['nfnet_f0']
  for name in ('nfnet_f7', 'nfnet_f4+', 'nf_resnet50', 'timm_nf_regnet_b0'):
    assert 'none published' in rows[name]


def test_names_and_patterns(monkeypatch, capsys):
  out = _run(monkeypatch, capsys, 'nfnet_f0', 'nf_regnet_b[01]')
  assert out.count('nf_regnet_b') == 2 and 'nfnet_f1' not in out
  with pytest.raises(errors.UserError, match='nfnet_g0'):
    _run(monkeypatch, capsys, 'nfnet_g0')
