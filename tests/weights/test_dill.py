"""Files written by real versions of dill, and attacks through its names."""

import os
import pathlib
import pickle
import sys

import numpy as np
import pytest

from nfnets import errors
from nfnets.weights import deepmind, safe_pickle

_FILES = sorted(
  (pathlib.Path(__file__).parents[1] / 'golden' / 'dill').glob('*.pkl')
)
_VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)
_EXPECTED = {
  'm/~/conv/c': _VALUES,
  'm/~/conv/fortran': _VALUES,
  'm/~/conv/zero_d': np.array(1.5, np.float32),
  'm/~/conv/scalar': np.array(2.5, np.float32),
  'm/~/conv/i8': np.arange(2),
  'm/~/conv/big': np.arange(2, dtype=np.float32),
  'm/~/conv/bool': np.array([True, False]),
  'm/~/conv/empty': np.zeros((0, 2), np.float16),
  'm/~/conv/old_jax': _VALUES,
  'm/~/conv/new_jax': _VALUES,
  'm/~/conv/matrix': np.arange(3, dtype=np.float32)[None],
  'm/~/conv/strided': np.arange(8, dtype=np.float32)[::2],
  'n/w': _VALUES + 1,
  'o/w': _VALUES + 2,
}


def test_every_version_and_protocol_has_a_file():
  names = {path.stem for path in _FILES}
  for version in ('0.3.3', '0.3.4', '0.3.6', '0.3.8', '0.4.1'):
    # Python 3.7 has no protocol 5.
    for protocol in range(5 if version == '0.3.3' else 6):
      assert f'dill_{version}_protocol_{protocol}' in names
  assert len(names) == 40


@pytest.mark.parametrize('path', _FILES, ids=lambda path: path.stem)
def test_files_of_dill(path):
  params, state = deepmind.read(path, None)
  assert not state
  assert params.keys() == _EXPECTED.keys()
  for name, expected in _EXPECTED.items():
    assert type(params[name]) is np.ndarray
    assert params[name].dtype == expected.dtype
    np.testing.assert_array_equal(params[name], expected, strict=True)


class _Name:
  """A name that a pickle refers to."""

  def __init__(self, module, name):
    self.text = f'{module}\n{name}\n'


def _pickle(value):
  """Pickles names, calls [function, *arguments], tuples and constants."""
  if isinstance(value, _Name):
    return b'c' + value.text.encode()
  if isinstance(value, list):
    return _pickle(value[0]) + _pickle(tuple(value[1:])) + b'R'
  if isinstance(value, tuple):
    return b'(' + b''.join(map(_pickle, value)) + b't'
  return pickle.dumps(value, 2)[2:-1]


def _load(tmp_path, value):
  path = tmp_path / 'file'
  path.write_bytes(b'\x80\x02' + _pickle(value) + b'.')
  return safe_pickle.load(path)


def _dill(name):
  return _Name('dill._dill', name)


def _module(name):
  return [_dill('_import_module'), name]


def _attacks(path):
  command, code = f'touch {path}', f'open({str(path)!r}, "w")'
  create, get = _dill('_create_array'), _dill('_get_attr')
  reconstruct = _Name('numpy.core.multiarray', '_reconstruct')
  ndarray = _Name('numpy', 'ndarray')
  evaluate = [get, _module('builtins'), 'eval']
  state = (1, (), None, False, b'')
  return {
    'system in _create_array': [
      create, _Name('posix', 'system'), (command,), state, None
    ],
    'eval in _create_array': [
      create, _Name('builtins', 'eval'), (code,), state, None
    ],
    'got eval in _create_array': [create, evaluate, (code,), state, None],
    'got eval': [evaluate, code],
    'got system': [[get, _module('os'), 'system'], command],
    'dotted name': [[get, _module('numpy'), 'f2py.os.system'], command],
    'attribute of a class': [[get, ndarray, 'tofile'], str(path)],
    'attribute of an array function': [get, reconstruct, '__globals__'],
    'module as a value': _module('this'),
    'type': [_dill('_load_type'), 'FunctionType'],
    'type of a type': [_dill('_load_type'), 'TypeType'],
    'new type': [_dill('_create_type'), [_dill('_load_type'), 'TypeType'], 'A'],
    'code': [_dill('_create_code'), code],
    'function': [_dill('_create_function'), code],
    'repr': [_dill('_eval_repr'), code],
    'class of a dtype': [
      [_dill('_create_dtypemeta'), ndarray], str(path)
    ],
    'array of a custom class': [
      create, reconstruct, (_Name('collections', 'OrderedDict'), (0,), b'b'),
      state, None,
    ],
    'other subclass': [
      create, reconstruct, (_Name('numpy', 'recarray'), (0,), b'b'), state, None
    ],
  }  # fmt: skip


@pytest.mark.parametrize('attack', _attacks('x'))
def test_attacks_execute_nothing(tmp_path, attack):
  path = tmp_path / 'executed'
  with pytest.raises(errors.UserError, match='nothing was executed') as raised:
    _load(tmp_path, _attacks(path)[attack])
  assert '\n' not in str(raised.value)
  assert not os.path.exists(path)


@pytest.mark.parametrize(
  'value',
  [
    [_dill('_create_array'), _Name('numpy', 'dtype'), ('f4',), (), None],
    [_dill('_create_array'), 1, (), (), None],
    [_dill('_create_array')],
    [_dill('_import_module'), 1],
    [_dill('_get_attr')],
  ],
)
def test_malformed_calls_end_in_one_line(tmp_path, value):
  with pytest.raises(errors.UserError, match='not a readable pickle') as raised:
    _load(tmp_path, value)
  assert '\n' not in str(raised.value)


def test_a_module_is_not_imported(tmp_path):
  assert 'antigravity' not in sys.modules
  with pytest.raises(errors.UserError, match="'antigravity.fly'"):
    _load(tmp_path, [_dill('_get_attr'), _module('antigravity'), 'fly'])
  assert 'antigravity' not in sys.modules


def test_a_function_is_not_a_value(tmp_path):
  function = [
    _dill('_get_attr'), _module('numpy._core.multiarray'), '_reconstruct'
  ]  # fmt: skip
  with pytest.raises(errors.UserError, match='constructor as a value'):
    _load(tmp_path, function)
