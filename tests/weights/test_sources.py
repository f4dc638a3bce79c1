import pathlib

import pytest

from nfnets import errors
from nfnets.weights import hub, sources
from tests.weights import tiny


@pytest.mark.parametrize('layout', ['nfnets', 'deepmind', 'timm'])
def test_detects_the_layout(tmp_path, layout):
  path = tmp_path / 'F0_haiku.npz'
  tiny.save(path, layout)
  source = sources.read(path)
  assert source.path == str(path)
  assert source.layout == layout
  name = 'stem.conv1.gain' if layout == 'timm' else 'NFNet/~/stem_conv0/gain'
  assert name in source.params
  assert source.state == {}


def test_our_files_specify_the_model(tmp_path):
  path = tmp_path / 'file'
  tiny.save(path, class_names=list('abcdefghij'), eval_preset='timm')
  source = sources.read(path)
  assert source.name == tiny.NAME
  assert source.options['depth'] == (1, 1, 1, 1)
  assert source.class_names == tuple('abcdefghij')
  assert source.eval_preset == 'timm'


@pytest.mark.parametrize('layout', ['deepmind', 'timm'])
def test_other_files_do_not(tmp_path, layout):
  path = tmp_path / 'file'
  tiny.save(path, layout)
  source = sources.read(path)
  assert source.name is None
  assert source.options == {}
  assert source.eval_preset is None


def test_hub_id_specifies_the_model(tmp_path, monkeypatch):
  path = tmp_path / 'file'
  tiny.save(path, 'timm')
  fetched = []

  def fetch(hub_id):
    fetched.append(hub_id)
    return path

  monkeypatch.setattr(hub, 'fetch', fetch)
  source = sources.read('timm/dm_nfnet_f0.dm_in1k')
  assert fetched == ['timm/dm_nfnet_f0.dm_in1k']
  assert source.name == 'nfnet_f0'
  assert source.path == 'timm/dm_nfnet_f0.dm_in1k'
  assert sources.read('hf-hub:owner/unknown.tag').name is None


def test_an_existing_file_takes_precedence_over_a_hub_id(tmp_path, monkeypatch):
  def fetch(hub_id):
    raise AssertionError(f'fetched {hub_id}')

  monkeypatch.setattr(hub, 'fetch', fetch)
  monkeypatch.chdir(tmp_path)
  pathlib.Path('timm').mkdir()
  tiny.save(pathlib.Path('timm/nfnet_f0'))
  assert sources.read('timm/nfnet_f0').layout == 'nfnets'


def test_directory_and_missing_file(tmp_path):
  with pytest.raises(errors.UserError, match='python -m nfnets.convert'):
    sources.read(tmp_path)
  with pytest.raises(errors.UserError, match='no such file'):
    sources.read('somewhere/weights')
