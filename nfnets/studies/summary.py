"""Means over seeds with their intervals, and tables of them."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nfnets.studies import results

INTERVAL = "95% interval of the mean over seeds (Student's t)"
"""What `Estimate.half_width` is, for captions."""


class Estimate(NamedTuple):
  """The mean over the runs that did not diverge.

  Attributes:
    mean: NaN without such a run.
    half_width: half of the 95% interval of the mean by Student's t; NaN with
      fewer than two runs.
    runs: number of runs in the mean.
    diverged: number of runs that diverged.
  """

  mean: float
  half_width: float
  runs: int
  diverged: int


def estimate(found: Iterable[results.Result], number: str) -> Estimate:
  """Estimates the mean of a number over runs that differ in their seed.

  Args:
    found: the results of the runs.
    number: a key of `Result.numbers`, such as 'top1'; a result without it does
      not count.
  """
  # Takes half a second, which --help does not need.
  from scipy import stats

  found = list(found)
  values = [
    x.numbers[number] for x in found if not x.diverged and number in x.numbers
  ]
  mean = statistics.fmean(values) if values else math.nan
  half_width = math.nan
  if len(values) > 1:
    error = statistics.stdev(values) / math.sqrt(len(values))
    half_width = float(stats.t.ppf(0.975, len(values) - 1)) * error
  return Estimate(mean, half_width, len(values), sum(x.diverged for x in found))


def percent(value: Estimate) -> str:
  """Formats a fraction in percent.

  Args:
    value: the estimate.

  Returns:
    Such as '51.3%', '51.3 ± 1.2%', '51.3% (1 of 3 diverged)' or 'diverged'; '-'
    without a run.
  """
  if not value.runs:
    return 'diverged' if value.diverged else '-'
  text = f'{100 * value.mean:.1f}'
  if not math.isnan(value.half_width):
    text += f' ± {100 * value.half_width:.1f}'
  if value.diverged:
    total = value.runs + value.diverged
    return f'{text}% ({value.diverged} of {total} diverged)'
  return f'{text}%'


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """Formats a table in Markdown with columns of equal width.

  Args:
    header: the names of the columns.
    rows: the cells of each row.
  """
  lines = [list(header), *(list(row) for row in rows)]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  lines.insert(1, ['-' * width for width in widths])
  return '\n'.join(
    f'| {" | ".join(x.ljust(w) for x, w in zip(row, widths, strict=True))} |'
    for row in lines
  )
