"""Times several programs in turn."""

import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple

Run = Callable[[int], float]
"""Runs a program a number of times, and returns the seconds of all runs.

It waits for the device after the last run only, so that the runs before it are
in flight together, as in training.
"""


class Timing(NamedTuple):
  """Statistics of the times of repeated runs, in seconds.

  Attributes:
    median: the median.
    low: the first quartile.
    high: the third quartile.
    best: the minimum.
    runs: the number of runs.
  """

  median: float
  low: float
  high: float
  best: float
  runs: int


def summarize(seconds: list[float]) -> Timing:
  """Computes median and spread of repeated runs.

  Args:
    seconds: the time of each run; at least one.

  Returns:
    The statistics.

  Raises:
    ValueError: the list is empty.
  """
  if not seconds:
    raise ValueError(f'seconds is {seconds}: it must have at least one run')
  low = high = seconds[0]
  if len(seconds) > 1:
    low, _, high = statistics.quantiles(seconds, n=4, method='inclusive')
  return Timing(
    statistics.median(seconds), low, high, min(seconds), len(seconds)
  )


def in_turn(
  programs: Mapping[str, Run], rounds: int, in_flight: int = 1
) -> dict[str, Timing]:
  """Measures each program twice per round and keeps the second time.

  Alternating exposes all programs to the same load from the rest of the
  machine. The first of the two measurements warms up caches, so that the second
  is timed as one of many in a row, as in training.

  Args:
    programs: the programs by name.
    rounds: number of rounds that count; a warm-up round precedes them.
    in_flight: number of runs per measurement, see `Run`.

  Returns:
    The statistics of the seconds per run of each program.
  """
  seconds: dict[str, list[float]] = {name: [] for name in programs}
  for turn in range(rounds + 1):
    for name, run in programs.items():
      run(in_flight)
      taken = run(in_flight)
      if turn > 0:
        seconds[name].append(taken / in_flight)
  return {name: summarize(values) for name, values in seconds.items()}
