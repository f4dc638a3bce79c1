"""The restricted unpickler: what it reads, and that it executes nothing."""

import collections
import os
import pickle
import pickletools
import random

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from haiku._src import data_structures

from nfnets import errors
from nfnets.weights import safe_pickle

_PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def _load(tmp_path, data):
  path = tmp_path / 'file'
  path.write_bytes(data)
  return safe_pickle.load(path)


def _global(module, name, arguments):
  """Returns a pickle (protocol 2) that calls module.name."""
  call = pickle.dumps(arguments, 2)[2:-1]
  return b'\x80\x02c' + f'{module}\n{name}\n'.encode() + call + b'R.'


@pytest.mark.parametrize('protocol', _PROTOCOLS)
@pytest.mark.parametrize(
  'array',
  [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.arange(3, dtype='>i4'),
    np.array(True),
    np.float32(1.5),
    np.zeros((0, 3), np.float16),
    np.ones(3, ml_dtypes.bfloat16),
  ],
  ids=['f4', 'fortran', 'big-endian', 'bool', 'scalar', 'empty', 'bfloat16'],
)
def test_arrays(tmp_path, protocol, array):
  found = _load(tmp_path, pickle.dumps(array, protocol))
  np.testing.assert_array_equal(found, array)
  assert found.dtype == array.dtype.newbyteorder('=')
  assert found.shape == array.shape


@pytest.mark.parametrize('protocol', _PROTOCOLS)
def test_containers_and_numbers(tmp_path, protocol):
  shared = [1, 'two', 3.5]
  value = {
    'a': [shared, shared, (), (None, True), -(2**80)],
    'b': collections.OrderedDict(x='é'),
    7: b'bytes' if protocol > 2 else 'text',
  }
  assert _load(tmp_path, pickle.dumps(value, protocol)) == value


def test_old_containers_of_haiku_and_jax(tmp_path):
  value = {
    'flat': data_structures.FlatMap({'w': np.ones(2)}),
    'device': jnp.arange(3.0),
  }
  found = _load(tmp_path, pickle.dumps(value))
  assert type(found['flat']) is dict
  np.testing.assert_array_equal(found['flat']['w'], [1, 1])
  np.testing.assert_array_equal(found['device'], [0, 1, 2])

  # The name of the function in JAX until 2022.
  array = np.arange(3, dtype=np.float32)
  make, arguments, state = array.__reduce__()
  data = pickle.dumps((make, arguments, state, {}), 2)
  call = b'\x80\x02cjax._src.device_array\nreconstruct_device_array\n'
  found = _load(tmp_path, call + data[2:-1] + b'R.')
  np.testing.assert_array_equal(found, array)

  found = _load(
    tmp_path,
    _global('haiku._src.data_structures', 'frozendict', ({'w': 1},)),
  )
  assert found == {'w': 1}


class _Payload:
  def __init__(self, function, *arguments):
    self._call = function, arguments

  def __reduce__(self):
    return self._call


class _WithState:
  def __setstate__(self, state):
    raise AssertionError('executed')


def _hostile(path):
  command = f'touch {path}'
  stateful = _WithState()
  stateful.value = 1
  return {
    'posix.system': _Payload(os.system, command),
    'eval': _Payload(eval, f'open({str(path)!r}, "w")'),
    'exec': {'module': {'w': _Payload(exec, f'open({str(path)!r}, "w")')}},
    'numpy.load': [_Payload(np.load, str(path))],
    '_WithState': stateful,
    'an array of': np.array([stateful]),
    'structured dtype': np.zeros(2, [('a', 'f4')]),
  }


@pytest.mark.parametrize('protocol', _PROTOCOLS)
@pytest.mark.parametrize('case', _hostile('x'))
def test_refuses_by_name_and_executes_nothing(tmp_path, protocol, case):
  sentinel = tmp_path / 'executed'
  try:
    data = pickle.dumps(_hostile(sentinel)[case], protocol)
  except (TypeError, pickle.PicklingError):
    pytest.skip('not supported by this protocol')
  match = case
  if case == '_WithState' and protocol < 2:
    match = '_reconstructor'
  elif case == 'structured dtype':
    match = 'an array of something other than numbers'
  with pytest.raises(errors.UserError, match=match) as raised:
    _load(tmp_path, data)
  assert 'nothing was executed' in str(raised.value)
  assert '\n' not in str(raised.value)
  assert not sentinel.exists()


@pytest.mark.parametrize(
  'data',
  [
    b'(iposix\nsystem\n.',
    b'(S"echo"\niposix\nsystem\n.',
    b'\x80\x02(cposix\nsystem\nS"echo"\no.',
    b'\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04echo\x85R.',
    b'\x80\x02Pabc\n.',
    b'\x80\x02\x82\x01.',
    b'\x80\x02cnumpy\nndarray\n)\x81.',
  ],
  ids=['INST', 'INST2', 'OBJ', 'STACK_GLOBAL', 'PERSID', 'EXT1', 'NEWOBJ'],
)
def test_refuses_every_instruction_that_could_call(tmp_path, data):
  with pytest.raises(errors.UserError, match='nothing was executed'):
    _load(tmp_path, data)


@pytest.mark.parametrize(
  'data',
  [
    b'',
    b'\x00' * 100,
    b'not a pickle',
    b'\x80\x02.',  # nothing on the stack
    b'\x80\x02]',  # without an end
    b'\x80\x02(.',
    b'\x80\x02t.',
    b'\x80\x02h\x07.',  # an unknown memo
    b'\x80\x02K\x01K\x02a.',  # append to a number
    b'\x80\x02K\x01}s.',
    b'\x80\x02}]K\x01s.',  # a list as a key
    b'\x80\x02K\x01K\x02R.',  # a call of a number
    b'\x80\x02]q\x00h\x00a.',  # a list that contains itself
    b'\x80\x02' + b'(' * 5000 + b't' * 5000 + b'.',  # 5000 deep
    b'\x80\x02}' + b')' + b'\x85' * 10**5 + b'K\x01s.',  # such a key's hash
    b'\x80\x04\x8e' + b'\xff' * 7 + b'\x7f.',  # 2^63 bytes
    b'\x80\x04\x8d' + b'\x00' * 6 + b'\x10\x00.',  # 2^52 characters
    b'\x80\x02]r\xff\xff\xff\xff.'[:7],
    b'\x80\x02\x8b\xff\xff\xff\x7f.',  # an integer of 2^31 bytes
    b'I' + b'9' * 10**6 + b'\n.',
  ],
)
def test_damaged_pickles_end_in_one_line(tmp_path, data):
  with pytest.raises(errors.UserError) as raised:
    _load(tmp_path, data)
  assert '\n' not in str(raised.value)
  assert len(str(raised.value)) < 500


def test_huge_memo_index_allocates_nothing(tmp_path):
  assert _load(tmp_path, b'\x80\x02]r\xff\xff\xff\xff.') == []


@pytest.mark.parametrize('shape', [(2**40, 2**40), (5,), (-4,), (4.0,), [4]])
def test_shape_must_fit_the_bytes(tmp_path, shape):
  array = np.ones(4, np.float32)
  make, arguments, state = array.__reduce__()
  state = (state[0], shape, *state[2:])

  class Array:
    def __reduce__(self):
      return make, arguments, state

  with pytest.raises(errors.UserError):
    _load(tmp_path, pickle.dumps(Array()))


def test_missing_file(tmp_path):
  with pytest.raises(errors.UserError, match='No such file'):
    safe_pickle.load(tmp_path / 'none')


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
def test_mutations_end_in_one_line_or_a_value(tmp_path, protocol):
  value = {'m/~/conv': {'w': np.ones((2, 3), np.float32), 'b': np.zeros(3)}}
  data = pickletools.optimize(pickle.dumps(value, protocol))
  rng = random.Random(protocol)
  refused = 0
  for _ in range(500):
    mutated = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
      index = rng.randrange(len(mutated))
      mutated[index : index + rng.choice((0, 1, 1, 1, 3))] = rng.randbytes(
        rng.choice((0, 1, 1, 2))
      )
    try:
      _load(tmp_path, bytes(mutated))
    except errors.UserError as error:
      refused += 1
      assert '\n' not in str(error)
  assert refused > 250
