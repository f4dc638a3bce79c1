import numpy as np
import pytest

from nfnets.report import figures, numbers
from tests.report import made


@pytest.mark.parametrize(
  'low, high', [(0, 1), (0.2, 0.97), (2e-4, 3e-4), (0, 89), (5, 5), (-3, 1e6)]
)
def test_ticks_are_few_round_numbers_that_cover_the_interval(low, high):
  found = figures.ticks(low, high)
  assert 2 <= len(found) <= 7
  assert found[0] <= low and found[-1] >= high
  steps = np.diff(found)
  np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
  digits = float(f'{steps[0]:.0e}'[0])
  assert digits in (1, 2, 5)


def points(line):
  return np.array([p.split(',') for p in line.points.split()], float)


def test_a_chart_is_linear_and_keeps_its_last_point():
  curve = [(step, step / 1000) for step in range(1001)]
  chart = figures.chart({'a': curve, 'none': [], 'b': [(1000, 0.5)]})
  first, second = chart.lines
  assert (first.name, second.name) == ('a', 'b')
  assert (first.style, second.style) == (0, 2)
  assert not first.dots and second.dots
  xy = points(first)
  assert len(xy) <= 302
  x, y = ({t.text: t.at for t in ts} for ts in (chart.x_ticks, chart.y_ticks))
  np.testing.assert_allclose(xy[0], (x['0'], y['0']), atol=0.1)
  np.testing.assert_allclose(xy[-1], (x['1000'], y['1']), atol=0.1)
  middle = (y['0.4'] + y['0.6']) / 2
  np.testing.assert_allclose(points(second)[0], (x['1000'], middle), atol=0.1)


def test_values_that_are_not_finite_have_no_point():
  chart = figures.chart({'a': [(1, np.nan), (2, 3.0), (3, np.inf)]})
  assert len(points(chart.lines[0])) == 1
  assert figures.chart({'a': [(1, np.nan)]}) is None
  assert figures.chart({}) is None


def test_bars_are_the_bins_with_images():
  calibration = numbers.calibrate(made.outcomes())
  bars = figures.bars(calibration)
  filled = np.flatnonzero(calibration.images)
  np.testing.assert_allclose([bar.x for bar in bars], filled / 15)
  np.testing.assert_allclose(
    [bar.accuracy for bar in bars], calibration.accuracy[filled]
  )
  assert f'{calibration.images[filled[0]]} images: ' in bars[0].text


@pytest.mark.parametrize('classes, drawn', [(1, True), (50, True), (51, False)])
def test_the_matrix_is_drawn_up_to_fifty_classes(classes, drawn):
  outcomes = made.outcomes(classes)
  counts = np.bincount(outcomes.label, minlength=classes).tolist()
  names = [f'class {i}' for i in range(classes)]
  pairs = numbers.confusion(outcomes)
  matrix = figures.matrix(pairs, counts, names)
  assert (matrix is not None) == drawn
  if matrix:
    shares = np.zeros((classes, classes))
    for cell in matrix.cells:
      shares[cell.row, cell.column] = cell.fraction
    np.testing.assert_allclose(shares.sum(1), 1)
    assert bool(matrix.cells[0].number) == (classes <= 20)


def test_long_names_are_shortened():
  assert figures._shortened('a' * 24) == 'a' * 24
  assert figures._shortened('a' * 20 + 'b' * 20) == 'a' * 11 + '…' + 'b' * 12
