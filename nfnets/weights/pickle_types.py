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

_NUMBERS = re.compile(r'[<>=|]?(b1|[iu][1248]|f[248])')
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

  @property
  def nbytes(self) -> int:
    """The size of the array's values, 0 for anything else."""
    return 0


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

  @property
  def nbytes(self) -> int:
    return 0 if self._value is None else self._value.nbytes


class _FinishedArray(Unfinished):
  """An array that was built in one step."""

  def __init__(self, value: np.ndarray) -> None:
    self._value = value

  def set_state(self, state: object) -> None:
    raise ValueError('a second state for an array')

  def finish(self) -> np.ndarray:
    return self._value

  @property
  def nbytes(self) -> int:
    return self._value.nbytes


class _Module(Unfinished):
  """The name of a module, which is never imported."""

  def __init__(self, name: str) -> None:
    self.name = name

  def set_state(self, state: object) -> None:
    raise Forbidden('setting the state of a module')

  def finish(self) -> object:
    raise Forbidden('a module as a value')


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
  if not (isinstance(spec, str) and _NUMBERS.fullmatch(spec)):
    raise Forbidden('an array of something other than numbers')
  return _DType(np.dtype(spec))


def _build_array(kind: object, shape: object, typecode: object) -> _Array:
  del shape, typecode  # Always (0,) and b'b'; the state has the real ones.
  if kind is not _NDARRAY and kind is not _SUBCLASS:
    raise Forbidden('an array of a custom class')
  return _Array()


def _build_scalar(dtype: object, data: object) -> _FinishedArray:
  return _FinishedArray(_array(data, dtype, (), 'C'))


def _build_from_buffer(
  data: object, dtype: object, shape: object, order: object
) -> _FinishedArray:
  return _FinishedArray(_array(data, dtype, shape, order))


def _build_from_parts(
  constructor: object, arguments: object, state: object, _: object = None
) -> _Array:
  """Builds an array in one call, as JAX and dill write it.

  The last argument, attributes of a JAX array or of a subclass, is ignored.
  """
  if constructor is not _RECONSTRUCT or not isinstance(arguments, tuple):
    raise ValueError('an array that is not built by _reconstruct')
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


def _name_module(name: object) -> _Module:
  if not isinstance(name, str):
    raise ValueError('a module whose name is not a string')
  return _Module(name)


def _get_constructor(module: object, name: object) -> Constructor:
  if not (isinstance(module, _Module) and isinstance(name, str)):
    raise Forbidden('an attribute of something other than a module')
  return find(module.name, name)


def _get_type(name: object) -> Constructor:
  if name != 'bytes':
    raise Forbidden('a type other than bytes')
  return _BYTES


def _get_dtype_class(scalar_type: object) -> Constructor:
  if scalar_type is not None:
    raise Forbidden('the class of a dtype')
  return _DTYPE


def _refuse_call(*_: object) -> None:
  raise Forbidden('a call of a class')


def find(module: str, name: str) -> Constructor:
  """Returns the constructor for a name that a pickle refers to.

  Args:
    module: the name of a module, which is not imported.
    name: the name of an object in it.

  Raises:
    Forbidden: pickles may not refer to it.
  """
  constructor = CONSTRUCTORS.get((module, name))
  if constructor is None:
    raise Forbidden(f'{f"{module}.{name}"!r:.100}')
  return constructor


_NDARRAY = Constructor(_refuse_call)
# Subclasses that add nothing to the values; they are read as plain arrays.
_SUBCLASS = Constructor(_refuse_call)
_BFLOAT16 = Constructor(_refuse_call)
_RECONSTRUCT = Constructor(_build_array)
_DTYPE = Constructor(_build_dtype)
_BYTES = Constructor(_build_empty_bytes)

CONSTRUCTORS: dict[tuple[str, str], Constructor] = {
  ('numpy', 'ndarray'): _NDARRAY,
  ('numpy', 'matrix'): _SUBCLASS,
  ('numpy', 'memmap'): _SUBCLASS,
  ('numpy', 'dtype'): _DTYPE,
  ('ml_dtypes', 'bfloat16'): _BFLOAT16,
  ('jax._src.device_array', 'reconstruct_device_array'): Constructor(
    _build_from_parts
  ),
  ('jax._src.array', '_reconstruct_array'): Constructor(_build_from_parts),
  ('haiku._src.data_structures', 'FlatMapping'): Constructor(_build_dict),
  ('haiku._src.data_structures', 'FlatMap'): Constructor(_build_dict),
  ('haiku._src.data_structures', 'frozendict'): Constructor(_build_dict),
  ('collections', 'OrderedDict'): Constructor(_build_dict),
  # How protocols 0 to 2 store bytes.
  ('_codecs', 'encode'): Constructor(_build_bytes),
  ('__builtin__', 'bytes'): _BYTES,
  # How dill stores functions written in C (until 0.3.4), empty bytes in
  # protocols 0 to 2, dtypes and arrays.
  ('dill._dill', '_import_module'): Constructor(_name_module),
  ('dill._dill', '_get_attr'): Constructor(_get_constructor),
  ('dill._dill', '_load_type'): Constructor(_get_type),
  ('dill._dill', '_create_dtypemeta'): Constructor(_get_dtype_class),
  ('dill._dill', '_create_array'): Constructor(_build_from_parts),
}
# NumPy 2 moved numpy.core to numpy._core.
for _core in ('numpy.core', 'numpy._core'):
  CONSTRUCTORS[f'{_core}.numeric', '_frombuffer'] = Constructor(
    _build_from_buffer
  )
  # dill until 0.3.4 refers to the module written in C.
  for _module in (f'{_core}.multiarray', f'{_core}._multiarray_umath'):
    CONSTRUCTORS[_module, '_reconstruct'] = _RECONSTRUCT
    CONSTRUCTORS[_module, 'scalar'] = Constructor(_build_scalar)
