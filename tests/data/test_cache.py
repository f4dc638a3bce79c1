import numpy as np

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
