"""Constructors that `safe_pickle` may call, by the names pickles use.

None of them is the real object of that name. Each is a function below that
checks its arguments and can build only arrays, numbers, dicts and bytes.

Arguments come from an untrusted file and may be any value that a pickle can
hold, hence the type `object`. Errors do not show them: the repr of a deeply
nested value would overflow the interpreter's stack.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import TypeGuard

import ml_dtypes
import numpy as np

_DTYPE = re.compile(r'[<>=|]?(b1|[iu][1248]|f[248])')
_MAX_SIZE = 2**48


@dataclasses.dataclass(frozen=True, eq=False)
class Constructor:
  """A callable that a pickle may refer to.

  `build` raises ValueError or TypeError for arguments that it refuses.
  """

  build: Callable[..., object]


class Forbidden(ValueError):
  """A request in the file that is refused; completes 'requests ...'."""


class Unfinished:
  """An object that a pickle builds in two steps: empty, then its state."""

  def set_state(self, state: object) -> None:
    """Checks and applies the state."""
    raise NotImplementedError

  def finish(self) -> object:
    """Returns the value; raises ValueError if the state is missing."""
    raise NotImplementedError


class _DType(Unfinished):
  """A NumPy dtype; its state holds the byte order."""

  def __init__(self, dtype: np.dtype) -> None:
    self.dtype = dtype

  def set_state(self, state: object) -> None:
    if not (isinstance(state, tuple) and len(state) in (8, 9)):
      raise ValueError('a dtype whose state has an unknown form')
    if state[1] not in ('<', '>', '=', '|') or state[2:5] != (None,) * 3:
      raise Forbidden('a dtype with fields')
    if state[1] in '<>':
      self.dtype = self.dtype.newbyteorder(state[1])

  def finish(self) -> str:
    return self.dtype.name


class _Array(Unfinished):
  """An array; its state holds shape, dtype and bytes."""

  def __init__(self) -> None:
    self._value: np.ndarray | None = None

  def set_state(self, state: object) -> None:
    if not (isinstance(state, tuple) and len(state) == 5):
      raise ValueError('an array whose state has an unknown form')
    _, shape, dtype, is_fortran, data = state
    self._value = _array(data, dtype, shape, 'F' if is_fortran else 'C')

  def finish(self) -> np.ndarray:
    if self._value is None:
      raise ValueError('an array without values')
    return self._value


class _FinishedArray(Unfinished):
  """An array that was built in one step."""

  def __init__(self, value: np.ndarray) -> None:
    self._value = value

  def set_state(self, state: object) -> None:
    raise ValueError('a second state for an array')

  def finish(self) -> np.ndarray:
    return self._value


def _array(
  data: object, dtype: object, shape: object, order: object
) -> np.ndarray:
  """Builds an array from its bytes; allocates no more memory than they take."""
  if not isinstance(dtype, _DType):
    raise Forbidden('an array of objects')
  if isinstance(data, str):  # Python 2 wrote bytes as strings.
    data = data.encode('latin-1')
  if not isinstance(data, bytes | bytearray):
    raise ValueError('an array whose values are not bytes')
  sizes = shape if isinstance(shape, tuple) else (shape,)
  if not _are_sizes(sizes):
    raise ValueError('an array whose shape is not a tuple of sizes')
  needed = math.prod(sizes) * dtype.dtype.itemsize
  if needed != len(data):
    raise ValueError(
      f'an array with {len(data)} bytes, which do not fill its shape'
    )
  values: np.ndarray = np.frombuffer(data, dtype.dtype)
  values = values.reshape(sizes, order='F' if order == 'F' else 'C')
  return values.astype(dtype.dtype.newbyteorder('='), copy=False)


def _are_sizes(values: tuple[object, ...]) -> TypeGuard[tuple[int, ...]]:
  return all(type(n) is int and 0 <= n < _MAX_SIZE for n in values)


def _build_dtype(
  spec: object, align: object = False, copy: object = True
) -> _DType:
  del align, copy
  if spec is _BFLOAT16:
    return _DType(np.dtype(ml_dtypes.bfloat16))
  if not (isinstance(spec, str) and _DTYPE.fullmatch(spec)):
    raise Forbidden('an array of something other than numbers')
  return _DType(np.dtype(spec))


def _build_array(kind: object, shape: object, typecode: object) -> _Array:
  del shape, typecode  # Always (0,) and b'b'; the state has the real ones.
  if kind is not _NDARRAY:
    raise Forbidden('an array of a custom class')
  return _Array()


def _build_scalar(dtype: object, data: object) -> _FinishedArray:
  return _FinishedArray(_array(data, dtype, (), 'C'))


def _build_from_buffer(
  data: object, dtype: object, shape: object, order: object
) -> _FinishedArray:
  return _FinishedArray(_array(data, dtype, shape, order))


def _build_device_array(
  constructor: object, arguments: object, state: object, _: object
) -> _Array:
  if constructor is not _RECONSTRUCT or not isinstance(arguments, tuple):
    raise ValueError('a device array that is not built from an array')
  array = _build_array(*arguments)
  array.set_state(state)
  return array


def _build_dict(mapping: object = ()) -> dict[object, object]:
  if mapping == ():
    return {}
  if not isinstance(mapping, dict):
    raise ValueError('a mapping that is not built from a dict')
  return mapping


def _build_bytes(text: object, encoding: object) -> bytes:
  if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
    raise ValueError('bytes in an unknown encoding')
  return text.encode('latin-1')


def _build_empty_bytes() -> bytes:
  return b''


def _refuse_call(*_: object) -> None:
  raise Forbidden('a call of a class')


_NDARRAY = Constructor(_refuse_call)
_BFLOAT16 = Constructor(_refuse_call)
_RECONSTRUCT = Constructor(_build_array)

CONSTRUCTORS: dict[tuple[str, str], Constructor] = {
  ('numpy', 'ndarray'): _NDARRAY,
  ('numpy', 'dtype'): Constructor(_build_dtype),
  ('ml_dtypes', 'bfloat16'): _BFLOAT16,
  # NumPy 2 moved numpy.core to numpy._core.
  ('numpy.core.multiarray', '_reconstruct'): _RECONSTRUCT,
  ('numpy._core.multiarray', '_reconstruct'): _RECONSTRUCT,
  ('numpy.core.multiarray', 'scalar'): Constructor(_build_scalar),
  ('numpy._core.multiarray', 'scalar'): Constructor(_build_scalar),
  ('numpy.core.numeric', '_frombuffer'): Constructor(_build_from_buffer),
  ('numpy._core.numeric', '_frombuffer'): Constructor(_build_from_buffer),
  ('jax._src.device_array', 'reconstruct_device_array'): Constructor(
    _build_device_array
  ),
  ('jax._src.array', '_reconstruct_array'): Constructor(_build_device_array),
  ('haiku._src.data_structures', 'FlatMapping'): Constructor(_build_dict),
  ('haiku._src.data_structures', 'FlatMap'): Constructor(_build_dict),
  ('haiku._src.data_structures', 'frozendict'): Constructor(_build_dict),
  ('collections', 'OrderedDict'): Constructor(_build_dict),
  # How protocols 0 to 2 store bytes.
  ('_codecs', 'encode'): Constructor(_build_bytes),
  ('__builtin__', 'bytes'): Constructor(_build_empty_bytes),
}
