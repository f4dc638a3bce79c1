"""Threads that decode in parallel: OpenCV releases Python's lock (the GIL)."""

import functools
import itertools
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

T = TypeVar('T')


@functools.cache
def _pool(num_threads: int) -> futures.ThreadPoolExecutor:
  """Returns this process's decoding threads, used for all batches."""
  return futures.ThreadPoolExecutor(num_threads, 'nfnets-decode')


def in_threads(
  fill: Callable[[int], list[T]], rows: int, num_threads: int
) -> list[T]:
  """Calls fill(0) ... fill(rows - 1) and concatenates the results in order.

  Args:
    fill: called once with each row's index; most results are empty.
    rows: number of calls.
    num_threads: number of calls that run in parallel.

  Raises:
    Exception: what a call raised, after the other rows are filled.
  """
  counter = itertools.count()
  found: dict[int, list[T]] = {}

  def drain() -> None:
    # next() of a count is atomic, so each idle thread takes the next row.
    while (row := next(counter)) < rows:
      if entries := fill(row):
        found[row] = entries

  threads = _pool(num_threads)
  drains = [threads.submit(drain) for _ in range(min(num_threads, rows))]
  futures.wait(drains)
  for future in drains:
    future.result()
  return [entry for row in sorted(found) for entry in found[row]]
