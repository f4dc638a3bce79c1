"""Paths that users give, atomic file replacement, and the cache folder."""

import json
import math
import os
import pathlib

import pytest

from nfnets import errors, files


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The current folder, with variables."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', '/me')
  monkeypatch.setenv('SCRATCH', '/fast')
  monkeypatch.setenv('EMPTY', '')
  monkeypatch.setenv('HOMELY', '~/x')
  monkeypatch.delenv('MISSING', raising=False)
  return tmp_path


@pytest.mark.parametrize(
  'given, expected',
  [
    ('~', '/me'),
    ('~/a b', '/me/a b'),
    ('~root/a', os.path.expanduser('~root/a')),
    ('$SCRATCH/a', '/fast/a'),
    ('${SCRATCH}er', '/faster'),
    ('a/$SCRATCH$SCRATCH', 'a/fast/fast'),
    ('$HOMELY/y', '/me/x/y'),
    (pathlib.Path('~/$SCRATCH'), '/me/fast'),
    ('a~/b', 'a~/b'),
    ('costs$5', 'costs$5'),
    ('a$', 'a$'),
    ('timm/dm_nfnet_f0.dm_in1k', 'timm/dm_nfnet_f0.dm_in1k'),
    ('hf-hub:owner/model.tag', 'hf-hub:owner/model.tag'),
    ('12:30/a', '12:30/a'),
    ('./gs:/a', 'gs:/a'),
  ],
)
def test_user_paths(folder, given, expected):
  assert files.user_path(given, '--out') == pathlib.Path(expected)


@pytest.mark.parametrize(
  'given, expected',
  [
    ('', '--out is empty'),
    ('$MISSING/a', "$MISSING/a (--out): the variable 'MISSING' is not set"),
    ('${MISSING}', "${MISSING} (--out): the variable 'MISSING' is not set"),
    ('a/$EMPTY/b', "a/$EMPTY/b (--out): the variable 'EMPTY' is not set or em"),
    ('${}', "${} (--out): the variable '' is not set"),
    ('~nobody-here/a', '~nobody-here/a (--out): ~nobody-here has no home'),
    ('gs://bucket/a', 'gs://bucket/a (--out): URLs are not supported'),
    (pathlib.Path('S3://b'), 'S3:/b (--out): URLs are not supported'),
  ],
)
def test_errors_of_user_paths(folder, given, expected):
  with pytest.raises(errors.UserError) as caught:
    files.user_path(given, '--out')
  assert str(caught.value).startswith(expected)


@pytest.mark.parametrize('name', ['$RECYCLE.BIN', '$MISSING', '~nobody-here'])
def test_a_path_that_exists_is_not_expanded(folder, name):
  (folder / name).touch()
  assert files.user_path(name, '--out') == pathlib.Path(name)


def test_a_new_file_in_a_folder_whose_name_has_a_dollar(folder):
  (folder / 'a$MISSING.d').mkdir()
  (folder / '$SCRATCH').mkdir()
  for given, expected in {
    'a$MISSING.d/new': 'a$MISSING.d/new',
    'a$MISSING.d/$SCRATCH': 'a$MISSING.d/fast',
    '$SCRATCH/new': '/fast/new',
  }.items():
    path = files.user_path(given, '--out')
    assert path == pathlib.Path(expected)
  with pytest.raises(errors.UserError, match='MISSING'):
    files.user_path('a$MISSING.d/$MISSING', '--out')


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


def test_open_regular(tmp_path):
  path = tmp_path / 'file'
  path.write_bytes(b'abc')
  (tmp_path / 'link').symlink_to(path)
  for name in (path, tmp_path / 'link', os.fsencode(path)):
    with files.open_regular(name) as file:
      assert file.read() == b'abc'
  os.mkfifo(tmp_path / 'pipe')
  for name in (tmp_path / 'pipe', os.devnull):
    with pytest.raises(OSError, match='not a regular file'):
      files.open_regular(name)
  with pytest.raises(IsADirectoryError):
    files.open_regular(tmp_path)
  with pytest.raises(FileNotFoundError):
    files.open_regular(tmp_path / 'none')


def test_json_is_read_as_it_was_written(tmp_path):
  value = {'a': [1, 2.5, None, True, 'é'], 'b': {'c': float('inf')}, 'd': -3}
  (tmp_path / 'file').write_text(json.dumps(value))
  assert files.read_json(tmp_path / 'file') == value
  assert math.isnan(files.parse_json('NaN'))
  assert files.parse_json('[' * 32 + ']' * 32)


@pytest.mark.parametrize(
  'text, reason',
  [
    ('', 'Expecting value'),
    (b'\xff{}', 'decode'),
    ('[' * 33 + ']' * 33, 'deeper than 32'),
    ('[' * 10**5, 'deeper than 32'),
    ('{"a": ' * 10**5, 'deeper than 32'),
    ('{"a": {"b": 1, "b": 2}}', "'b' occurs twice"),
    ('1' * 101, 'an integer of 101 digits'),
  ],
)
def test_json_that_nobody_writes_is_an_error_with_a_reason(text, reason):
  with pytest.raises(ValueError, match=reason):
    files.parse_json(text)


def test_a_huge_json_file_is_not_read(tmp_path):
  with open(tmp_path / 'file', 'wb') as file:
    file.truncate(2**26 + 1)
  with pytest.raises(ValueError, match='67108865 bytes, more than'):
    files.read_json(tmp_path / 'file')


def test_free_names_are_beside_the_original_and_not_too_long(tmp_path):
  for expected in ('3.damaged', '3.damaged2', '3.damaged3'):
    found = files.free_name(tmp_path / '3')
    assert found == tmp_path / expected
    found.symlink_to('nowhere')
  files.free_name(tmp_path / ('é' * 120)).touch()
