"""Atomic file replacement, and the cache folder."""

import pathlib

import pytest

from nfnets import files


def test_failed_write_keeps_the_old_file(tmp_path):
  path = tmp_path / 'file'
  path.write_text('before')
  with pytest.raises(RuntimeError), files.replacing(path) as temporary:
    temporary.write_text('half')
    raise RuntimeError
  assert path.read_text() == 'before'
  assert list(tmp_path.iterdir()) == [path]


def test_new_file_has_the_usual_permissions(tmp_path):
  (tmp_path / 'plain').touch()
  with files.replacing(tmp_path / 'new') as temporary:
    temporary.write_text('all')
  assert (tmp_path / 'new').read_text() == 'all'
  modes = {path.stat().st_mode for path in tmp_path.iterdir()}
  assert len(modes) == 1


@pytest.mark.parametrize('base', ['', 'relative'])
def test_cache_folder_defaults_to_the_home_directory(monkeypatch, base):
  monkeypatch.setenv('XDG_CACHE_HOME', base)
  monkeypatch.setenv('HOME', '/me')
  assert files.cache_folder() == pathlib.Path('/me/.cache/nfnets')


def test_cache_folder_follows_the_environment(monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', '/somewhere')
  assert files.cache_folder('xla') == pathlib.Path('/somewhere/nfnets/xla')
