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
