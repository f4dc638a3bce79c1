import io
import os
import zipfile

import numpy as np
import pytest

from nfnets.data import cache


def test_round_trip(tmp_path):
  arrays = {'a': np.arange(5), 'b': np.array([b'x', b'yz'])}
  cache.save_arrays(tmp_path / 'new' / 'x.npz', arrays)
  loaded = cache.load_arrays(tmp_path / 'new' / 'x.npz')
  assert loaded is not None and loaded.keys() == arrays.keys()
  for key, value in arrays.items():
    np.testing.assert_array_equal(loaded[key], value)
  assert [path.name for path in (tmp_path / 'new').iterdir()] == ['x.npz']


def test_missing_and_damaged_files_are_none(tmp_path):
  assert cache.load_arrays(tmp_path / 'nothing.npz') is None
  for content in (b'', b'PK', b'\x80\x04.', b'\x93NUMPY'):
    (tmp_path / 'x.npz').write_bytes(content)
    assert cache.load_arrays(tmp_path / 'x.npz') is None


def test_pickled_objects_are_not_loaded(tmp_path):
  path = tmp_path / 'x.npz'
  np.savez(path, x=np.array([object()], object))
  assert cache.load_arrays(path) is None


def test_write_failure_is_a_warning(tmp_path, caplog):
  (tmp_path / 'file').write_text('')
  cache.save_arrays(tmp_path / 'file' / 'x.npz', {'a': np.arange(3)})
  assert 'cannot be cached for the next run' in caplog.text


def test_entries_differ_by_kind_and_key():
  paths = {cache.entry_path(kind, key) for kind in 'ab' for key in ('x', 'y')}
  assert len(paths) == 4


def _saved(path):
  cache.save_arrays(path, {'a': np.arange(100), 'b': np.array([b'x', b'yz'])})
  return path.read_bytes()


def test_no_change_of_a_bit_is_accepted(tmp_path):
  path = tmp_path / 'x.npz'
  data = _saved(path)
  expected = cache.load_arrays(path)
  for at in range(0, len(data), 7):
    path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    loaded = cache.load_arrays(path)
    # Some bytes of a zip file are never read.
    if loaded is not None:
      for key, value in loaded.items():
        np.testing.assert_array_equal(value, expected[key])


def test_arrays_of_another_entry_or_program_are_none(tmp_path):
  data = _saved(tmp_path / 'x.npz')
  (tmp_path / 'y.npz').write_bytes(data)
  assert cache.load_arrays(tmp_path / 'y.npz') is None
  np.savez(tmp_path / 'x.npz', a=np.arange(100), b=np.array([b'x', b'yz']))
  assert cache.load_arrays(tmp_path / 'x.npz') is None
  np.savez(tmp_path / 'x.npz', a=np.arange(100), sha256=np.array('x'))
  assert cache.load_arrays(tmp_path / 'x.npz') is None
  np.save(tmp_path / 'x.npy', np.arange(3))
  assert cache.load_arrays(tmp_path / 'x.npy') is None


@pytest.mark.parametrize('member', [b'', b'\x93NUMPY\x01\0v\0{', b'x' * 9])
def test_members_that_are_no_arrays_are_none(tmp_path, member):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as archive:
    archive.writestr('a.npy', member)
  (tmp_path / 'x.npz').write_bytes(buffer.getvalue())
  assert cache.load_arrays(tmp_path / 'x.npz') is None


def test_compressed_members_are_not_read(tmp_path):
  np.savez_compressed(tmp_path / 'x.npz', a=np.zeros(10**6))
  assert cache.load_arrays(tmp_path / 'x.npz') is None


def test_a_pipe_is_not_opened(tmp_path):
  os.mkfifo(tmp_path / 'x.npz')
  assert cache.load_arrays(tmp_path / 'x.npz') is None
