"""The few constructors that `safe_pickle` knows, by the names pickles use.

None of them is the object of that name: each is a function below that checks
its arguments and can make nothing but an array, a number or a dict.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

_DTYPE = re.compile(r'[<>=|]?(b1|[iu][1248]|f[248])')
_MAX_SIZE = 2**48


@dataclasses.dataclass(frozen=True, eq=False)
class Maker:
  """A constructor that a pickle may name; raises ValueError or TypeError."""

  make: Callable[..., Any]


class Forbidden(ValueError):
  """What the file asks for, said so that it can follow 'asks for'."""


class Unfinished:
  """What a pickle makes in two steps: first empty, then its state."""

  def set_state(self, state: Any) -> None:
    """Takes the second step; `state` is checked here."""
    raise NotImplementedError

  def finish(self) -> Any:
    """The value; ValueError where the second step is missing."""
    raise NotImplementedError


class _DType(Unfinished):
  """A number type; its state holds the byte order."""

  def __init__(self, dtype: np.dtype[Any]) -> None:
    self.dtype = dtype

  def set_state(self, state: Any) -> None:
    if not (isinstance(state, tuple) and len(state) in (8, 9)):
      raise ValueError('a number type with a state of another form')
    if state[1] not in ('<', '>', '=', '|') or state[2:5] != (None,) * 3:
      raise Forbidden('a number type with fields')
    if state[1] in '<>':
      self.dtype = self.dtype.newbyteorder(state[1])

  def finish(self) -> Any:
    return self.dtype.name


class _Array(Unfinished):
  """An array; its state holds shape, type and bytes."""

  def __init__(self) -> None:
    self._value: np.ndarray[Any, Any] | None = None

  def set_state(self, state: Any) -> None:
    if not (isinstance(state, tuple) and len(state) == 5):
      raise ValueError('an array with a state of another form')
    _, shape, dtype, is_fortran, data = state
    self._value = _array(data, dtype, shape, 'F' if is_fortran else 'C')

  def finish(self) -> np.ndarray[Any, Any]:
    if self._value is None:
      raise ValueError('an array without values')
    return self._value


class _Done(Unfinished):
  """An array that was made in one step."""

  def __init__(self, value: np.ndarray[Any, Any]) -> None:
    self._value = value

  def set_state(self, state: Any) -> None:
    raise ValueError('a second state for an array')

  def finish(self) -> np.ndarray[Any, Any]:
    return self._value


def _array(
  data: Any, dtype: Any, shape: Any, order: Any
) -> np.ndarray[Any, Any]:
  """The array whose bytes are `data`; nothing is reserved beyond them."""
  if not isinstance(dtype, _DType):
    raise Forbidden('an array of objects')
  if isinstance(data, str):  # bytes, as Python 2 wrote them
    data = data.encode('latin-1')
  if not isinstance(data, bytes | bytearray):
    raise ValueError('an array whose values are not bytes')
  sizes = shape if isinstance(shape, tuple) else (shape,)
  if not all(type(n) is int and 0 <= n < _MAX_SIZE for n in sizes):
    raise ValueError('an array whose shape is not a tuple of sizes')
  needed = math.prod(sizes) * dtype.dtype.itemsize
  if needed != len(data):
    raise ValueError(
      f'an array whose shape needs another number of bytes than {len(data)}'
    )
  values: np.ndarray[Any, Any] = np.frombuffer(data, dtype.dtype)
  values = values.reshape(sizes, order='F' if order == 'F' else 'C')
  return values.astype(dtype.dtype.newbyteorder('='), copy=False)


def _make_dtype(spec: Any, align: Any = False, copy: Any = True) -> _DType:
  del align, copy
  if spec is _BFLOAT16:
    return _DType(np.dtype(ml_dtypes.bfloat16))
  if not (isinstance(spec, str) and _DTYPE.fullmatch(spec)):
    raise Forbidden('an array of something else than numbers')
  return _DType(np.dtype(spec))


def _make_array(kind: Any, shape: Any, typecode: Any) -> _Array:
  del shape, typecode  # Always (0,) and b'b': the state says more.
  if kind is not _NDARRAY:
    raise Forbidden('an array of a class of its own')
  return _Array()


def _make_scalar(dtype: Any, data: Any) -> _Done:
  return _Done(_array(data, dtype, (), 'C'))


def _make_from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Done:
  return _Done(_array(data, dtype, shape, order))


def _make_device_array(make: Any, arguments: Any, state: Any, _: Any) -> _Array:
  if make is not _RECONSTRUCT or not isinstance(arguments, tuple):
    raise ValueError('a device array that is not made of an array')
  array = _make_array(*arguments)
  array.set_state(state)
  return array


def _make_dict(mapping: Any = ()) -> dict[Any, Any]:
  if mapping == ():
    return {}
  if not isinstance(mapping, dict):
    raise ValueError('a mapping that is not made of a dict')
  return mapping


def _make_bytes(text: Any, encoding: Any) -> bytes:
  if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
    raise ValueError('bytes in an unknown encoding')
  return text.encode('latin-1')


def _make_no_bytes() -> bytes:
  return b''


def _not_callable(*_: Any) -> None:
  raise Forbidden('a call of a class')


_NDARRAY = Maker(_not_callable)
_BFLOAT16 = Maker(_not_callable)
_RECONSTRUCT = Maker(_make_array)

MAKERS: dict[tuple[str, str], Maker] = {
  ('numpy', 'ndarray'): _NDARRAY,
  ('numpy', 'dtype'): Maker(_make_dtype),
  ('ml_dtypes', 'bfloat16'): _BFLOAT16,
  # NumPy 1 and NumPy 2 name the same functions differently.
  ('numpy.core.multiarray', '_reconstruct'): _RECONSTRUCT,
  ('numpy._core.multiarray', '_reconstruct'): _RECONSTRUCT,
  ('numpy.core.multiarray', 'scalar'): Maker(_make_scalar),
  ('numpy._core.multiarray', 'scalar'): Maker(_make_scalar),
  ('numpy.core.numeric', '_frombuffer'): Maker(_make_from_buffer),
  ('numpy._core.numeric', '_frombuffer'): Maker(_make_from_buffer),
  ('jax._src.device_array', 'reconstruct_device_array'): Maker(
    _make_device_array
  ),
  ('jax._src.array', '_reconstruct_array'): Maker(_make_device_array),
  ('haiku._src.data_structures', 'FlatMapping'): Maker(_make_dict),
  ('haiku._src.data_structures', 'FlatMap'): Maker(_make_dict),
  ('haiku._src.data_structures', 'frozendict'): Maker(_make_dict),
  ('collections', 'OrderedDict'): Maker(_make_dict),
  # Bytes in protocols older than they are.
  ('_codecs', 'encode'): Maker(_make_bytes),
  ('__builtin__', 'bytes'): Maker(_make_no_bytes),
}
