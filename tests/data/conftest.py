"""Gives the tests a cache of their own instead of the user's."""

import pytest


@pytest.fixture(scope='session')
def cache_home(tmp_path_factory):
  return tmp_path_factory.mktemp('cache')


@pytest.fixture(autouse=True)
def _own_cache(cache_home, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(cache_home))
  monkeypatch.delenv('TFDS_DATA_DIR', raising=False)
