"""Seconds of several contestants, measured in turn."""

import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Timing(NamedTuple):
  """Seconds of repeated runs.

  Attributes:
    median: of all runs.
    low: first quartile.
    high: third quartile.
    best: the least.
    runs: how many.
  """

  median: float
  low: float
  high: float
  best: float
  runs: int


def summarise(seconds: list[float]) -> Timing:
  """Median and spread of repeated runs.

  Args:
    seconds: of each run, at least one.

  Raises:
    ValueError: there is no run.
  """
  if not seconds:
    raise ValueError(f'no run to summarise: {seconds}')
  low = high = seconds[0]
  if len(seconds) > 1:
    low, _, high = statistics.quantiles(seconds, n=4, method='inclusive')
  return Timing(
    statistics.median(seconds), low, high, min(seconds), len(seconds)
  )


def in_turn(
  contestants: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, Timing]:
  """Runs each contestant twice a round, and counts the second.

  Taking turns makes whatever else the machine does meet all of them alike. The
  run before the one that counts makes that one of many in a row, as in
  training, and not the first after a pause.

  Args:
    contestants: each runs once and returns its seconds.
    rounds: that count; one more comes before, to warm up.
  """
  seconds: dict[str, list[float]] = {name: [] for name in contestants}
  for turn in range(rounds + 1):
    for name, run in contestants.items():
      run()
      taken = run()
      if turn > 0:
        seconds[name].append(taken)
  return {name: summarise(values) for name, values in seconds.items()}
