"""Threads that decode: OpenCV lets go of Python's lock, so they run at once."""

import functools
import itertools
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

T = TypeVar('T')


@functools.cache
def _pool(num_threads: int) -> futures.ThreadPoolExecutor:
  """The decoding threads of this process, shared by all batches."""
  return futures.ThreadPoolExecutor(num_threads, 'nfnets-decode')


def in_threads(
  fill: Callable[[int], list[T]], rows: int, num_threads: int
) -> list[T]:
  """Calls fill(0) ... fill(rows - 1), joins what they return in that order.

  Raises:
    Exception: what a call raised; the other rows are filled nevertheless.
  """
  counter = itertools.count()
  found: dict[int, list[T]] = {}

  def drain() -> None:
    # next() of a count is atomic: threads share the rows as they come free.
    while (row := next(counter)) < rows:
      if entries := fill(row):
        found[row] = entries

  threads = _pool(num_threads)
  drains = [threads.submit(drain) for _ in range(min(num_threads, rows))]
  futures.wait(drains)
  for future in drains:
    future.result()
  return [entry for row in sorted(found) for entry in found[row]]
