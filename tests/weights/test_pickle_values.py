"""The budget of bytes: hostile pickles that reuse what they hold."""

import pickle
import pickletools
import tracemalloc

import numpy as np
import pytest

from nfnets import errors
from nfnets.weights import deepmind, pickle_types, pickle_values, safe_pickle

_SIZE, _REPEATS = 2**18, 4000
_KEYS = [f'k{i}' for i in range(_REPEATS)]


def _global(module, name):
  return b'c' + f'{module}\n{name}\n'.encode()


def _constant(value):
  """Pickles a constant without the opcodes that write to the memo."""
  return pickletools.optimize(pickle.dumps(value, 2))[2:-1]


def _dict(pairs):
  """Pickles a dict, given its keys and its values' opcodes."""
  return b'}(' + b''.join(_constant(key) + x for key, x in pairs) + b'u'


# Memo 0: a string; 1: bytes decoded from it; 2: a dtype of other byte order.
_STRING = _constant('a' * _SIZE) + b'q\x000'
_ENCODE = _global('_codecs', 'encode')
_BYTES = _ENCODE + b'h\x00' + _constant('latin1') + b'\x86R'
_DTYPE = (
  _global('numpy', 'dtype')
  + _constant(('f4',))
  + b'R'
  + _constant((3, '>', None, None, None, -1, -1, 0))
  + b'bq\x020'
)
_ARRAY = (
  _global('numpy.core.multiarray', '_reconstruct')
  + b'('
  + _global('numpy', 'ndarray')
  + _constant((0,))
  + _constant('b')
  + b'tR(K\x01'
  + _constant((_SIZE // 4,))
  + b'h\x02I00\nh\x01tb'
)


def _hostile():
  start = b'\x80\x02' + _STRING + _DTYPE
  shared = start + _BYTES + b'q\x010'
  array = shared + _ARRAY + b'q\x030'
  names = _dict([(key, b'N') for key in _KEYS])
  arrays = _dict([(key, b'h\x03') for key in _KEYS])
  modules = _dict([(key, b'h\x04') for key in _KEYS])
  bodies = {
    'a string decoded often': start + b'](' + _REPEATS * _BYTES + b'e',
    'bytes copied by arrays': shared + b'](' + _REPEATS * _ARRAY + b'e',
    'a string decoded by arrays': (
      start + b'h\x00q\x010](' + _REPEATS * _ARRAY + b'e'
    ),
    'an array of many names': array + _dict([('m', arrays)]),
    'a dict of many names': b'\x80\x02' + names + b'q\x040' + modules,
    'a dict of arrays of many names': array + arrays + b'q\x040' + modules,
    'a long name joined with many': (
      b'\x80\x02' + _dict([('a' * _SIZE, names)])
    ),
    'a list doubled 40 times': b'\x80\x02]' + b'2\x86' * 40,
    'dicts': b'\x80\x02(' + b'}' * _SIZE + b'l',
    'tuples': b'\x80\x02(' + b')\x85' * _SIZE + b'l',
    'memo': b'\x80\x04(' + b'N\x94' * _SIZE + b'l',
    'calls': (
      b'\x80\x02'
      + _global('collections', 'OrderedDict')
      + b'q\x010('
      + b'h\x01)R' * (_SIZE // 4)
      + b'l'
    ),
  }
  return {name: body + b'.' for name, body in bodies.items()}


@pytest.mark.parametrize('case', _hostile())
def test_memory_is_bounded_by_the_size_of_the_file(tmp_path, monkeypatch, case):
  monkeypatch.setattr(pickle_values, 'ALLOWANCE', 0)
  path = tmp_path / 'file'
  path.write_bytes(_hostile()[case])
  tracemalloc.start()
  try:
    with pytest.raises(errors.UserError, match='times the size of the file'):
      deepmind.read(path, None)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  allowed = (pickle_values.FACTOR + 4) * path.stat().st_size + 2**21
  assert peak < allowed


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_normal_files_spend_at_most_twice_their_size(
  tmp_path, monkeypatch, protocol
):
  monkeypatch.setattr(pickle_values, 'FACTOR', 2)
  monkeypatch.setattr(pickle_values, 'OBJECT_COST', 0)
  monkeypatch.setattr(pickle_values, 'ALLOWANCE', 0)
  rng = np.random.default_rng(0)
  tree = {
    f'network/~/a_block_{i}/~/conv': {
      'w': rng.standard_normal((3, 8), np.float32),
      'gain': np.ones(8, np.float32),
      'bias': np.zeros(8, np.float32),
      'scale': np.float32(i),
    }
    for i in range(50)
  }
  path = tmp_path / 'file'
  path.write_bytes(pickle.dumps(tree, protocol))
  params, _ = deepmind.read(path, None)
  assert len(params) == 200


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_thousands_of_tiny_arrays_are_read(tmp_path, protocol):
  tree = {'m': {f'w{i}': np.float32(i) for i in range(5000)}}
  path = tmp_path / 'file'
  path.write_bytes(pickle.dumps(tree, protocol))
  assert len(deepmind.read(path, None).params) == 5000


def test_an_array_may_be_shared(tmp_path):
  shared = np.arange(1000.0)
  path = tmp_path / 'file'
  path.write_bytes(pickle.dumps({'a': {'w': shared}, 'b': {'w': shared}}))
  found = safe_pickle.load(path)
  assert found['a']['w'] is found['b']['w']


def test_budget_counts_exactly():
  budget = pickle_values.Budget(10)
  budget.spend(80 + 2**24)
  with pytest.raises(ValueError, match='more than 16777296 bytes: 8 times'):
    budget.spend(1)


def test_size_of_bytes_and_arrays():
  scalar = pickle_types.find('numpy.core.multiarray', 'scalar')
  dtype = pickle_types.find('numpy', 'dtype').build('f8')
  assert pickle_values.size(scalar.build(dtype, bytes(8))) == 8
  assert pickle_values.size(dtype) == 0
  assert pickle_values.size(b'abc') == 3
  assert pickle_values.size({}) == 0
