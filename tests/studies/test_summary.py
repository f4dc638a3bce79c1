"""Means, intervals and tables."""

import math

import pytest

from nfnets.studies import summary
from tests.studies import made


def test_the_interval_is_students():
  found = [made.result({}, x) for x in (1.0, 2.0, 3.0)]
  value = summary.estimate(found, 'top1')
  # 95% of Student's t with 2 degrees of freedom: 4.303; deviation 1.
  assert value.mean == 2.0 and value.runs == 3 and value.diverged == 0
  assert value.half_width == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)


def test_diverged_runs_are_counted_but_not_in_the_mean():
  found = [made.result({}, 0.5), made.result({}, diverged=True)]
  value = summary.estimate(found, 'top1')
  assert (value.mean, value.runs, value.diverged) == (0.5, 1, 1)
  assert math.isnan(value.half_width)


def test_a_number_that_was_not_measured_does_not_count():
  found = [made.result({}, 0.5, ema_top1=0.75), made.result({}, 0.5)]
  value = summary.estimate(found, 'ema_top1')
  assert (value.mean, value.runs) == (0.75, 1)


@pytest.mark.parametrize(
  'value, text',
  [
    ((0.5127, 0.0123, 3, 0), '51.3 ± 1.2%'),
    ((0.5127, math.nan, 1, 0), '51.3%'),
    ((0.5127, math.nan, 1, 2), '51.3% (2 of 3 diverged)'),
    ((math.nan, math.nan, 0, 3), 'diverged'),
    ((math.nan, math.nan, 0, 0), '-'),
  ],
)
def test_percent(value, text):
  assert summary.percent(summary.Estimate(*value)) == text


def test_a_table_has_columns_of_equal_width():
  rows = [('SAM', '98.0%'), ('everything', 'x')]
  assert summary.table(('enabled', 'top-1'), rows).splitlines() == [
    '| enabled    | top-1 |',
    '| ---------- | ----- |',
    '| SAM        | 98.0% |',
    '| everything | x     |',
  ]
