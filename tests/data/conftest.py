"""Gives the tests a cache of their own, and a folder of damaged pictures."""

import pytest

from tests.data import pictures


@pytest.fixture(scope='session')
def cache_home(tmp_path_factory):
  return tmp_path_factory.mktemp('cache')


@pytest.fixture(autouse=True)
def _own_cache(cache_home, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(cache_home))
  monkeypatch.delenv('TFDS_DATA_DIR', raising=False)


@pytest.fixture(name='folder')
def damaged_folder(tmp_path):
  """Sixty digits, ten of them damaged, each in a different way."""
  paths = pictures.write_class_folders(tmp_path, range(60), '.jpg')
  kinds = pictures.broken(paths[0].read_bytes())
  bad = {}
  for path, (kind, data) in zip(paths[::6], kinds.items(), strict=True):
    path.write_bytes(data)
    bad[str(path)] = kind
  return tmp_path, bad
