"""A restricted unpickler that can only build arrays and plain containers.

The published F0-F6 files are pickles, and Python's own unpickler calls any
function that a file refers to. This one interprets the pickle opcodes but
cannot import anything. It builds numbers, strings, lists, tuples, dicts and
NumPy arrays, and refuses all else, with the name of what was requested. Its
memory and time are bounded by the size of the file (`pickle_values.Budget`).

The stack and the memo can hold any value that a pickle can build, hence the
type `object`.
"""

import mmap
import os
import pathlib
import pickletools
import struct
from collections.abc import Callable
from typing import IO, Any, NoReturn, cast

from nfnets import errors, files
from nfnets.weights import pickle_types, pickle_values

_MARK = object()

# Opcodes that push the value stored after them.
_CONSTANTS = frozenset(
  """
  INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
  STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
  UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 NONE NEWTRUE NEWFALSE
""".split()
)
_LITERALS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
# Opcodes that create an object of Python, or an entry of the memo.
_CREATING = frozenset(
  """
  EMPTY_LIST EMPTY_DICT LIST TUPLE TUPLE1 TUPLE2 TUPLE3 DICT REDUCE
  MEMOIZE PUT BINPUT LONG_BINPUT
""".split()
)
_IGNORED = frozenset(('PROTO', 'FRAME'))


class _Refused(Exception):
  """A request in the file that is refused; completes 'requests ...'."""


class _Malformed(Exception):
  """A defect of the pickle."""


def load(path: str | os.PathLike[str]) -> object:
  """Reads the object in a pickle file without executing anything.

  Args:
    path: a file written by pickle or dill with any protocol.

  Returns:
    Nested dicts, lists and tuples of numbers, strings and NumPy arrays
    (native byte order). Old mappings of Haiku are returned as dicts, old device
    arrays of JAX as NumPy arrays.

  Raises:
    UserError: the file is not a pickle, is damaged, or requests anything else;
      the message names the request.
  """
  path = pathlib.Path(path)
  try:
    with files.open_regular(path) as file:
      if not os.fstat(file.fileno()).st_size:
        raise errors.UserError(f'{path}: the file is empty; download it again')
      # Unlike read(n), a map never allocates the n of a damaged length.
      with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        budget = pickle_values.Budget(len(view))
        built = _Unpickler(budget).run(view)
        return _as_plain(built, budget)
  except _Refused as error:
    raise errors.UserError(
      f'{path}: refused, nothing was executed: the file requests {error}; '
      'weights consist of arrays, numbers, strings and dicts only'
    ) from None
  except _Malformed as error:
    raise errors.UserError(
      f'{path}: not a readable pickle ({error}); download or write it again'
    ) from None
  except OSError as error:
    raise errors.UserError(
      f'{path}: cannot be read: {error.strerror}'
    ) from None


class _Unpickler:
  """A stack machine for pickle opcodes that cannot import or call."""

  def __init__(self, budget: pickle_values.Budget) -> None:
    self._budget = budget
    self._stack: list[object] = []
    self._memo: dict[int, object] = {}
    # Each action takes the opcode's argument: an int, a str or None.
    self._actions: dict[str, Callable[[Any], None]] = {
      'MARK': lambda _: self._stack.append(_MARK),
      'POP': lambda _: self._drop(),
      'POP_MARK': lambda _: self._drop_to_mark(),
      'DUP': lambda _: self._stack.append(self._top()),
      'MEMOIZE': lambda _: self._remember(len(self._memo)),
      'EMPTY_LIST': lambda _: self._stack.append([]),
      'EMPTY_TUPLE': lambda _: self._stack.append(()),
      'EMPTY_DICT': lambda _: self._stack.append({}),
      'LIST': lambda _: self._stack.append(self._to_mark()),
      'TUPLE': lambda _: self._stack.append(tuple(self._to_mark())),
      'TUPLE1': lambda _: self._stack.append(self._pop_many(1)),
      'TUPLE2': lambda _: self._stack.append(self._pop_many(2)),
      'TUPLE3': lambda _: self._stack.append(self._pop_many(3)),
      'DICT': lambda _: self._stack.append(_as_dict(self._to_mark())),
      'APPEND': lambda _: self._extend(list(self._pop_many(1))),
      'APPENDS': lambda _: self._extend(self._to_mark()),
      'SETITEM': lambda _: self._update(list(self._pop_many(2))),
      'SETITEMS': lambda _: self._update(self._to_mark()),
      'GLOBAL': self._global,
      'STACK_GLOBAL': lambda _: self._stack_global(),
      'REDUCE': lambda _: self._reduce(),
      'BUILD': lambda _: self._build(),
    }
    for name in ('PUT', 'BINPUT', 'LONG_BINPUT'):
      self._actions[name] = self._remember
    for name in ('GET', 'BINGET', 'LONG_BINGET'):
      self._actions[name] = self._recall

  def run(self, file: mmap.mmap) -> object:
    """Interprets the opcodes of `file` and returns the top of the stack."""
    position = 0
    try:
      for opcode, value, offset in pickletools.genops(cast(IO[bytes], file)):
        position = offset or 0
        if opcode.name == 'STOP':
          return self._pop_many(1)[0]
        self._step(opcode.name, value)
    except pickle_types.Forbidden as error:
      raise _Refused(str(error)) from None
    except (ValueError, OverflowError, struct.error, IndexError) as error:
      # genops explains itself in several lines; the first is enough.
      reason = str(error).split('\n')[0][:120] or type(error).__name__
      _malformed(f'near byte {position}: {reason}')
    except (KeyError, TypeError, MemoryError) as error:
      _malformed(f'near byte {position}: {type(error).__name__}')
    return _malformed('it does not end')

  def _step(self, name: str, value: object) -> None:
    if name in _CREATING:
      self._budget.spend(pickle_values.OBJECT_COST)
    if name in _CONSTANTS:
      self._stack.append(_LITERALS.get(name, value))
    elif name in self._actions:
      self._actions[name](value)
    elif name not in _IGNORED:
      argument = f' {value!r:.100}' if isinstance(value, str) else ''
      raise _Refused(f'the pickle instruction {name}{argument}')

  def _top(self) -> object:
    if not self._stack or self._stack[-1] is _MARK:
      _malformed('it takes a value from an empty stack')
    return self._stack[-1]

  def _drop(self) -> None:
    if not self._stack:
      _malformed('it takes a value from an empty stack')
    self._stack.pop()

  def _pop_many(self, count: int) -> tuple[object, ...]:
    values = tuple(self._stack[-count:])
    if len(values) < count or any(value is _MARK for value in values):
      _malformed('it takes a value from an empty stack')
    del self._stack[-count:]
    return values

  def _to_mark(self) -> list[object]:
    values: list[object] = []
    while self._stack:
      value = self._stack.pop()
      if value is _MARK:
        return values[::-1]
      values.append(value)
    return _malformed('it closes a list that it did not open')

  def _drop_to_mark(self) -> None:
    self._to_mark()

  def _remember(self, index: int) -> None:
    self._memo[index] = self._top()

  def _recall(self, index: int) -> None:
    if index not in self._memo:
      _malformed('it refers to an unknown value')
    self._stack.append(self._memo[index])

  def _extend(self, values: list[object]) -> None:
    target = self._top()
    if not isinstance(target, list):
      _malformed('it appends to something other than a list')
    target.extend(values)

  def _update(self, values: list[object]) -> None:
    target = self._top()
    if not isinstance(target, dict):
      _malformed('it sets an item of something other than a dict')
    target.update(_as_dict(values))

  def _global(self, value: str) -> None:
    module, _, name = value.partition(' ')
    self._find(module, name)

  def _stack_global(self) -> None:
    module, name = self._pop_many(2)
    if not (isinstance(module, str) and isinstance(name, str)):
      _malformed('it refers to something by a name that is not a string')
    self._find(module, name)

  def _find(self, module: str, name: str) -> None:
    self._stack.append(pickle_types.find(module, name))

  def _reduce(self) -> None:
    constructor, arguments = self._pop_many(2)
    if not isinstance(constructor, pickle_types.Constructor):
      _malformed('it calls something other than a constructor')
    if not isinstance(arguments, tuple):
      _malformed('it calls a constructor without a tuple of arguments')
    value = constructor.build(*arguments)
    self._budget.spend(pickle_values.size(value))
    self._stack.append(value)

  def _build(self) -> None:
    (state,) = self._pop_many(1)
    target = self._top()
    if not isinstance(target, pickle_types.Unfinished):
      raise _Refused(f'setting the state of a {type(target).__name__}')
    target.set_state(state)
    self._budget.spend(pickle_values.size(target))


def _as_dict(values: list[object]) -> dict[object, object]:
  if len(values) % 2:
    _malformed('a key of a dict has no value')
  keys = values[::2]
  # Hashing a deeply nested tuple would overflow the interpreter's stack.
  if not all(isinstance(key, str | int) for key in keys):
    _malformed('a key of a dict is neither a string nor an integer')
  return dict(zip(keys, values[1::2], strict=True))


def _as_plain(value: object, budget: pickle_values.Budget) -> object:
  try:
    return pickle_values.resolve(value, budget)
  except pickle_types.Forbidden as error:
    raise _Refused(str(error)) from None
  except (ValueError, TypeError) as error:
    return _malformed(str(error)[:120])
  except MemoryError:
    return _malformed('its values do not fit in memory')


def _malformed(reason: str) -> NoReturn:
  raise _Malformed(reason)
