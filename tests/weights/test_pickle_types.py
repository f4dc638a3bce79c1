"""The constructors that a pickle may call, called directly."""

import ml_dtypes
import numpy as np
import pytest

from nfnets.weights import pickle_types


def _constructor(module, name):
  return pickle_types.CONSTRUCTORS[module, name]


_NDARRAY = _constructor('numpy', 'ndarray')
_RECONSTRUCT = _constructor('numpy._core.multiarray', '_reconstruct')


def _dtype(spec='f4', byte_order='<'):
  dtype = _constructor('numpy', 'dtype').build(spec, False, True)
  dtype.set_state((3, byte_order, None, None, None, -1, -1, 0))
  return dtype


def _array(shape, dtype, data, is_fortran=False):
  array = _RECONSTRUCT.build(_NDARRAY, (0,), b'b')
  array.set_state((1, shape, dtype, is_fortran, data))
  return array.finish()


def test_no_constructor_is_the_object_of_its_name():
  for constructor in pickle_types.CONSTRUCTORS.values():
    assert constructor.build.__module__ == 'nfnets.weights.pickle_types'


def test_array_from_state():
  values = np.arange(6, dtype=np.float32).reshape(2, 3)
  found = _array((2, 3), _dtype(), values.tobytes())
  np.testing.assert_array_equal(found, values)
  found = _array((2, 3), _dtype(), values.tobytes('F'), is_fortran=True)
  np.testing.assert_array_equal(found, values)


def test_byte_order_becomes_native():
  values = np.arange(3, dtype='>i4')
  found = _array((3,), _dtype('i4', '>'), values.tobytes())
  np.testing.assert_array_equal(found, [0, 1, 2])
  assert found.dtype == np.dtype('i4')


def test_bytes_of_python_2():
  values = np.array([-1.5, 2.0], np.float32)
  found = _array((2,), _dtype(), values.tobytes().decode('latin-1'))
  np.testing.assert_array_equal(found, values)


def test_scalar_buffer_and_bfloat16():
  scalar = _constructor('numpy.core.multiarray', 'scalar')
  assert scalar.build(_dtype(), np.float32(1.5).tobytes()).finish() == 1.5
  bfloat16 = _constructor('ml_dtypes', 'bfloat16')
  dtype = _constructor('numpy', 'dtype').build(bfloat16)
  values = np.ones(3, ml_dtypes.bfloat16)
  buffer = _constructor('numpy._core.numeric', '_frombuffer')
  found = buffer.build(values.tobytes(), dtype, (3,), 'C').finish()
  assert found.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(found, values)


def test_device_array_of_jax():
  state = (1, (2,), _dtype(), False, np.ones(2, np.float32).tobytes())
  device_array = _constructor('jax._src.array', '_reconstruct_array')
  arguments = (_NDARRAY, (0,), b'b')
  found = device_array.build(_RECONSTRUCT, arguments, state, {}).finish()
  np.testing.assert_array_equal(found, [1, 1])
  with pytest.raises(ValueError, match='not built by _reconstruct'):
    device_array.build(print, arguments, state, {})


@pytest.mark.parametrize(
  'shape', [(2**48,), (-4,), (4.0,), (True,), [4], None, (5,), (2**40, 2**40)]
)
def test_shape_must_fit_the_bytes(shape):
  with pytest.raises(ValueError, match='shape'):
    _array(shape, _dtype(), bytes(16))


def test_values_must_be_bytes():
  with pytest.raises(ValueError, match='not bytes'):
    _array((1,), _dtype(), [0, 0, 0, 0])


@pytest.mark.parametrize('spec', ['O', 'O8', 'U4', 'S4', 'V8', 'f16', 'i4,i4'])
def test_dtypes_other_than_numbers_are_forbidden(spec):
  with pytest.raises(pickle_types.Forbidden, match='other than numbers'):
    _dtype(spec)


def test_dtypes_with_fields_are_forbidden():
  dtype = _constructor('numpy', 'dtype').build('f4')
  with pytest.raises(pickle_types.Forbidden, match='fields'):
    dtype.set_state((3, '<', None, ('a',), {}, -1, -1, 0))


def test_dtype_must_be_built_here():
  with pytest.raises(pickle_types.Forbidden, match='array of objects'):
    _array((1,), np.dtype(object), bytes(8))


def test_array_subclasses_are_forbidden():
  with pytest.raises(pickle_types.Forbidden, match='custom class'):
    _RECONSTRUCT.build(_constructor('collections', 'OrderedDict'), (0,), b'b')


def test_classes_are_arguments_only():
  for constructor in (_NDARRAY, _constructor('ml_dtypes', 'bfloat16')):
    with pytest.raises(pickle_types.Forbidden, match='call of a class'):
      constructor.build((2,))


def test_unfinished_and_finished_arrays():
  with pytest.raises(ValueError, match='without values'):
    _RECONSTRUCT.build(_NDARRAY, (0,), b'b').finish()
  scalar = _constructor('numpy.core.multiarray', 'scalar')
  with pytest.raises(ValueError, match='second state'):
    scalar.build(_dtype(), bytes(4)).set_state(())


def test_mappings_and_bytes():
  for name in ('FlatMapping', 'FlatMap', 'frozendict'):
    build = _constructor('haiku._src.data_structures', name).build
    assert build({'w': 1}) == {'w': 1}
    assert build() == {}
    with pytest.raises(ValueError, match='not built from a dict'):
      build([('w', 1)])
  encode = _constructor('_codecs', 'encode').build
  assert encode('\xff', 'latin1') == b'\xff'
  with pytest.raises(ValueError, match='unknown encoding'):
    encode('a', 'rot13')
  assert _constructor('__builtin__', 'bytes').build() == b''
