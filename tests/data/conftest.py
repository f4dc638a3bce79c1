"""A cache of the tests' own, so that the user's is neither read nor written."""

import pytest


@pytest.fixture(scope='session')
def cache_home(tmp_path_factory):
  return tmp_path_factory.mktemp('cache')


@pytest.fixture(autouse=True)
def _own_cache(cache_home, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(cache_home))
  monkeypatch.delenv('TFDS_DATA_DIR', raising=False)
