import threading

import pytest

from nfnets.data import pool


def test_each_row_is_filled_once_and_results_are_in_order():
  for num_threads in (1, 3, 20):
    found = pool.in_threads(lambda row: [row] * (row % 3), 10, num_threads)
    assert found == [row for row in range(10) for _ in range(row % 3)]
  assert pool.in_threads(lambda row: [row], 0, 2) == []


def test_rows_are_filled_in_parallel():
  # Each row waits for the other: a single thread would never finish.
  barrier = threading.Barrier(2, timeout=30)
  assert pool.in_threads(lambda row: [barrier.wait() * 0], 2, 2) == [0, 0]


def test_errors_are_raised_after_the_other_rows():
  done = []

  def fill(row):
    if row == 1:
      raise ValueError('row 1')
    return done.append(row) or []

  with pytest.raises(ValueError, match='row 1'):
    pool.in_threads(fill, 4, 2)
  assert sorted(done) == [0, 2, 3]
