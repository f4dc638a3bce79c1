import sys

import pytest

from nfnets import errors
from nfnets.data import folder_source, sources
from tests.data import pictures


@pytest.mark.parametrize('split', ['vald', 'Train', ''])
def test_unknown_split_is_an_error(split):
  with pytest.raises(errors.UserError, match='train, valid, test'):
    sources.load_source('digits', split)


def test_folders_do_not_need_tfds(tmp_path, monkeypatch):
  pictures.write_class_folders(tmp_path, range(20))
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  source = sources.load_source(f'folder:{tmp_path}', 'all')
  assert isinstance(source, folder_source.FolderSource)
  assert len(source) == 20


def test_other_names_are_tfds_data_sets():
  source = sources.load_source('digits', 'train')
  assert (source.name, source.split, len(source)) == ('digits', 'train', 1437)


@pytest.mark.parametrize('split', ['val', 'valid', 'validation', 'test'])
def test_held_out_splits_have_several_names(split):
  assert len(sources.load_source('digits', split)) == 360


@pytest.mark.parametrize(
  'spelling', ['{}', '{}/', './images', 'images', '~/images']
)
def test_a_folder_without_its_prefix(tmp_path, monkeypatch, spelling):
  (tmp_path / 'images').mkdir()
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', str(tmp_path))
  name = spelling.format(tmp_path / 'images')
  with pytest.raises(errors.UserError) as caught:
    sources.load_source(name, 'train')
  message = str(caught.value)
  assert f'for a folder of images, write folder:{name}' in message
  assert 'pip install' not in message


def test_a_path_that_does_not_exist(tmp_path):
  with pytest.raises(errors.UserError, match=f'folder:{tmp_path}/nope'):
    sources.load_source(f'{tmp_path}/nope', 'train')


def test_a_prepared_data_set_may_have_the_name_of_a_folder(
  tmp_path, monkeypatch
):
  (tmp_path / 'digits').mkdir()
  monkeypatch.chdir(tmp_path)
  assert len(sources.load_source('digits', 'train')) == 1437


def test_labels_are_known_for_folders_only(tmp_path):
  pictures.write_class_folders(tmp_path, range(20))
  source = sources.load_source(f'folder:{tmp_path}', 'all')
  labels = sources.labels(source, 'this')
  assert labels.tolist() == [source[i]['label'] for i in range(20)]
  digits = sources.load_source('digits', 'train')
  with pytest.raises(errors.UserError, match='this needs the label of every'):
    sources.labels(digits, 'this')
