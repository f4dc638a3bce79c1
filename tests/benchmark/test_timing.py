"""Times of programs that take turns."""

import pytest

from nfnets.benchmark import timing


def test_median_and_quartiles():
  result = timing.summarize([5.0, 1.0, 3.0, 2.0, 4.0])
  assert result == timing.Timing(
    median=3.0, low=2.0, high=4.0, best=1.0, runs=5
  )


def test_one_run_has_no_spread():
  assert timing.summarize([2.0]) == timing.Timing(2.0, 2.0, 2.0, 2.0, 1)


def test_no_run_raises():
  with pytest.raises(ValueError, match=r'\[\]'):
    timing.summarize([])


def test_second_run_of_each_round_counts_except_in_the_warm_up_round():
  calls = []

  def contestant(name, seconds):
    values = iter(seconds)

    def run(count):
      calls.append((name, count))
      return next(values)

    return run

  result = timing.in_turn(
    {
      'a': contestant('a', [9, 9, 9, 1, 9, 3]),
      'b': contestant('b', [9, 9, 9, 2, 9, 2]),
    },
    rounds=2,
  )
  assert calls == [('a', 1), ('a', 1), ('b', 1), ('b', 1)] * 3
  assert result['a'].median == 2
  assert result['a'].best == 1
  assert result['b'] == timing.Timing(2, 2, 2, 2, 2)


def test_runs_in_flight_share_the_time():
  counts = []

  def run(count):
    counts.append(count)
    return 0.5 * count + 1.0

  assert timing.in_turn({'a': run}, 2, in_flight=20)['a'].median == 0.55
  assert counts == [20] * 6
