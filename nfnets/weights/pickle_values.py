"""Turns what a pickle built into plain values, within a budget of bytes.

A pickle refers to a value again with two bytes. Without a budget, a file of
1 MB that decodes, copies or names the same bytes again and again fills the
memory.
"""

from typing import NamedTuple

from nfnets.weights import pickle_types

FACTOR = 8
"""A file may produce at most this many times its own size in bytes.

The arrays of a normal file take at most twice its size: in protocols 0 to 2,
their bytes are decoded from strings first.
"""

OBJECT_COST = 64
"""Bytes paid for each container, call and entry of the memo."""

ALLOWANCE = 2**24
"""Bytes that a file of any size may produce: tiny arrays are mostly objects."""
_MAX_DEPTH = 64


class Budget:
  """The number of bytes that the reader of one file may still produce."""

  def __init__(self, file_size: int) -> None:
    """Starts with `FACTOR` times the size of the file and `ALLOWANCE`.

    Args:
      file_size: bytes.
    """
    self._limit = self._left = FACTOR * file_size + ALLOWANCE

  def spend(self, count: int) -> None:
    """Subtracts `count` bytes.

    Raises:
      ValueError: more than the limit has been spent.
    """
    self._left -= count
    if self._left < 0:
      raise ValueError(
        f'its values take more than {self._limit} bytes: {FACTOR} times the'
        ' size of the file and 16 MiB'
      )


class _Done(NamedTuple):
  value: object
  cost: int  # bytes, if the value is used once more


def size(value: object) -> int:
  """Returns the bytes of values that a constructor has just produced."""
  if isinstance(value, bytes):
    return len(value)
  return value.nbytes if isinstance(value, pickle_types.Unfinished) else 0


def resolve(value: object, budget: Budget) -> object:
  """Replaces unfinished objects by their values; shared ones stay shared.

  Code that copies the result, or joins the names of nested dicts, copies a
  shared value once per occurrence. Each occurrence after the first is therefore
  paid for.

  Args:
    value: what the pickle built.
    budget: pays for repeated values and for names joined with those around
      them.

  Returns:
    Nested dicts, lists and tuples of plain values and arrays.

  Raises:
    Forbidden: a value is a constructor or a module.
    ValueError: it is too deep, unfinished or exceeds the budget.
  """
  return _resolve(value, budget, 0, {}).value


def _resolve(
  value: object, budget: Budget, depth: int, done: dict[int, _Done]
) -> _Done:
  if depth > _MAX_DEPTH:
    raise ValueError(
      f'it is nested deeper than {_MAX_DEPTH}, or contains itself'
    )
  if isinstance(value, pickle_types.Constructor):
    raise pickle_types.Forbidden('a constructor as a value')
  if not isinstance(value, dict | list | tuple | pickle_types.Unfinished):
    return _Done(value, 1)
  if id(value) in done:
    budget.spend(done[id(value)].cost)
    return done[id(value)]
  if isinstance(value, pickle_types.Unfinished):
    result = _Done(value.finish(), 1 + value.nbytes)
  elif isinstance(value, dict):
    names = sum(_names(key, item) for key, item in value.items())
    budget.spend(names)
    items = [_resolve(x, budget, depth + 1, done) for x in value.values()]
    values = (item.value for item in items)
    result = _Done(
      dict(zip(value, values, strict=True)),
      1 + names + sum(item.cost for item in items),
    )
  else:
    items = [_resolve(x, budget, depth + 1, done) for x in value]
    result = _Done(
      type(value)(item.value for item in items),
      1 + sum(item.cost for item in items),
    )
  done[id(value)] = result
  return result


def _names(key: object, item: object) -> int:
  """Returns the characters of a key, joined with the keys below it."""
  length = len(key) if isinstance(key, str) else 1
  return length * max(1, len(item)) if isinstance(item, dict) else length
