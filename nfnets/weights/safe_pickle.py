"""Reads pickles of arrays without running anything that is in them.

The published F0-F6 files are pickles. Python's own unpickler calls whatever a
file names; this one is a small machine of its own that knows the pickle
language but not how to import. It builds numbers, strings, lists, tuples,
dicts and NumPy arrays, and refuses everything else by name. Its memory and its
time are bounded by the size of the file.
"""

import mmap
import os
import pathlib
import pickletools
import struct
from collections.abc import Callable
from typing import IO, Any, NoReturn, cast

from nfnets import errors
from nfnets.weights import pickle_types

_MARK = object()
_MAX_DEPTH = 64

# Opcodes that push the value which stands in the file.
_CONSTANTS = frozenset(
  """
  INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
  STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
  UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 NONE NEWTRUE NEWFALSE
""".split()
)
_LITERALS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_IGNORED = frozenset(('PROTO', 'FRAME'))


class _Refused(Exception):
  """What the file asks for, said so that it can follow 'asks for'."""


class _Malformed(Exception):
  """What is wrong with the file as a pickle."""


def load(path: str | os.PathLike[str]) -> Any:
  """Reads the object in a pickle file; runs nothing.

  Args:
    path: a file written by pickle or dill, any protocol.

  Returns:
    Nested dicts, lists and tuples of numbers, strings and NumPy arrays
    (native byte order). Haiku's old mappings are returned as dicts, JAX's old
    device arrays as NumPy arrays.

  Raises:
    UserError: the file is not a pickle, is damaged, or asks for anything but
      the above; the message names what it asks for.
  """
  path = pathlib.Path(path)
  try:
    with open(path, 'rb') as file:
      if not os.fstat(file.fileno()).st_size:
        raise errors.UserError(f'{path}: the file is empty')
      # A map, and not the file: it never reserves what a damaged length asks.
      with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return _resolve(_Machine().run(view), 0, {})
  except _Refused as error:
    raise errors.UserError(
      f'{path}: refused, nothing was run: the file asks for {error}; weights '
      'are made of arrays, numbers, strings and dicts only'
    ) from None
  except _Malformed as error:
    raise errors.UserError(
      f'{path}: not a readable pickle ({error}); fetch or write it again'
    ) from None
  except OSError as error:
    raise errors.UserError(
      f'{path}: cannot be read: {error.strerror}'
    ) from None


class _Machine:
  """The stack machine of the pickle language, without its powers."""

  def __init__(self) -> None:
    self._stack: list[Any] = []
    self._memo: dict[int, Any] = {}
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

  def run(self, file: mmap.mmap) -> Any:
    """Runs the machine over the opcodes of `file` and returns the top."""
    position = 0
    try:
      for opcode, value, place in pickletools.genops(cast(IO[bytes], file)):
        position = place or 0
        if opcode.name == 'STOP':
          return self._pop_many(1)[0]
        self._step(opcode.name, value)
    except pickle_types.Forbidden as error:
      raise _Refused(str(error)) from None
    except (ValueError, OverflowError, struct.error, IndexError) as error:
      # genops explains itself in several lines: the first is enough.
      reason = str(error).split('\n')[0][:120] or type(error).__name__
      _malformed(f'near byte {position}: {reason}')
    except (KeyError, TypeError, MemoryError) as error:
      _malformed(f'near byte {position}: {type(error).__name__}')
    return _malformed('it has no end')

  def _step(self, name: str, value: Any) -> None:
    if name in _CONSTANTS:
      self._stack.append(_LITERALS.get(name, value))
    elif name in self._actions:
      self._actions[name](value)
    elif name not in _IGNORED:
      asked = f' {value!r:.100}' if isinstance(value, str) else ''
      raise _Refused(f'the pickle instruction {name}{asked}')

  def _top(self) -> Any:
    if not self._stack or self._stack[-1] is _MARK:
      _malformed('it takes a value where there is none')
    return self._stack[-1]

  def _drop(self) -> None:
    if not self._stack:
      _malformed('it takes a value where there is none')
    self._stack.pop()

  def _pop_many(self, count: int) -> tuple[Any, ...]:
    values = tuple(self._stack[-count:])
    if len(values) < count or any(value is _MARK for value in values):
      _malformed('it takes a value where there is none')
    del self._stack[-count:]
    return values

  def _to_mark(self) -> list[Any]:
    values: list[Any] = []
    while self._stack:
      value = self._stack.pop()
      if value is _MARK:
        return values[::-1]
      values.append(value)
    return _malformed('it closes a list that was not opened')

  def _drop_to_mark(self) -> None:
    self._to_mark()

  def _remember(self, index: int) -> None:
    self._memo[index] = self._top()

  def _recall(self, index: int) -> None:
    if index not in self._memo:
      _malformed('it refers to a value that was not given')
    self._stack.append(self._memo[index])

  def _extend(self, values: list[Any]) -> None:
    if not isinstance(self._top(), list):
      _malformed('it appends to what is not a list')
    self._top().extend(values)

  def _update(self, values: list[Any]) -> None:
    if not isinstance(self._top(), dict):
      _malformed('it sets an item of what is not a dict')
    self._top().update(_as_dict(values))

  def _global(self, value: str) -> None:
    module, _, name = value.partition(' ')
    self._find(module, name)

  def _stack_global(self) -> None:
    module, name = self._pop_many(2)
    if not (isinstance(module, str) and isinstance(name, str)):
      _malformed('it names something by what is not a name')
    self._find(module, name)

  def _find(self, module: str, name: str) -> None:
    maker = pickle_types.MAKERS.get((module, name))
    if maker is None:
      raise _Refused(f'{f"{module}.{name}"!r:.100}')
    self._stack.append(maker)

  def _reduce(self) -> None:
    maker, arguments = self._pop_many(2)
    if not isinstance(maker, pickle_types.Maker):
      _malformed('it calls what is not a constructor')
    if not isinstance(arguments, tuple):
      _malformed('it calls a constructor without a list of arguments')
    self._stack.append(maker.make(*arguments))

  def _build(self) -> None:
    (state,) = self._pop_many(1)
    target = self._top()
    if not isinstance(target, pickle_types.Unfinished):
      raise _Refused(f'setting the state of a {type(target).__name__}')
    target.set_state(state)


def _as_dict(values: list[Any]) -> dict[Any, Any]:
  if len(values) % 2:
    _malformed('a key of a dict has no value')
  keys = values[::2]
  # Hashing a deeply nested tuple overflows the interpreter's stack.
  if not all(isinstance(key, str | int) for key in keys):
    _malformed('a key of a dict is neither a string nor an integer')
  return dict(zip(keys, values[1::2], strict=True))


def _resolve(value: Any, depth: int, done: dict[int, Any]) -> Any:
  """Replaces what was built in steps by arrays, once per shared value."""
  if depth > _MAX_DEPTH:
    _malformed(f'it nests deeper than {_MAX_DEPTH}, or holds itself')
  if isinstance(value, pickle_types.Unfinished):
    return _finished(value)
  if isinstance(value, pickle_types.Maker):
    raise _Refused('a constructor as a value')
  if not isinstance(value, dict | list | tuple):
    return value
  if id(value) not in done:
    if isinstance(value, dict):
      done[id(value)] = {
        key: _resolve(item, depth + 1, done) for key, item in value.items()
      }
    else:
      items = [_resolve(item, depth + 1, done) for item in value]
      done[id(value)] = type(value)(items)
  return done[id(value)]


def _finished(value: pickle_types.Unfinished) -> Any:
  try:
    return value.finish()
  except (ValueError, TypeError) as error:
    return _malformed(str(error)[:120])


def _malformed(reason: str) -> NoReturn:
  raise _Malformed(reason)
