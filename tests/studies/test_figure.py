"""Figures: their files, and the numbers that they show."""

import math

import numpy as np
import pytest
from matplotlib import figure as figure_lib

from nfnets import errors
from nfnets.studies import figure, summary

NAN = math.nan
CURVES = [
  figure.Curve(
    'a',
    (64, 128, 256),
    [
      summary.Estimate(0.5, 0.1, 3, 0),
      summary.Estimate(0.25, NAN, 1, 2),
      summary.Estimate(NAN, NAN, 0, 3),
    ],
  )
]


def test_a_figure_is_a_small_png(tmp_path):
  path = tmp_path / 'x.png'
  panels = [lambda axes: figure.draw_curves(axes, CURVES * 4)] * 3
  figure.save(path, panels, 'a caption')
  content = path.read_bytes()
  assert content.startswith(b'\x89PNG') and len(content) < 150_000
  figure.save(path, panels, 'a caption')
  assert [x.name for x in tmp_path.iterdir()] == ['x.png']


def test_curves_show_means_bars_and_divergence():
  axes = figure_lib.Figure().subplots()
  figure.draw_curves(axes, CURVES)
  (bars,) = axes.containers
  line, _, (segments,) = bars.lines
  shown = line.get_ydata().astype(float)
  np.testing.assert_array_equal(shown, [50.0, 25.0, NAN])
  assert segments.get_segments()[0].tolist() == [[64, 40], [64, 60]]
  (crosses,) = [x for x in axes.lines if x.get_marker() == 'x']
  assert list(crosses.get_xdata()) == [128, 256]


def test_without_divergence_there_is_no_cross():
  axes = figure_lib.Figure().subplots()
  curve = figure.Curve('a', (1,), [summary.Estimate(0.5, 0.1, 3, 0)])
  figure.draw_curves(axes, [curve], percent=False)
  assert not [x for x in axes.lines if x.get_marker() == 'x']


def test_the_axis_of_fractions_ends_at_0_and_100_percent():
  curves = [
    figure.Curve('a', (1,), [summary.Estimate(0.9, 0.8, 2, 0)]),
    figure.Curve('b', (1,), [summary.Estimate(0.2, 0.5, 2, 0)]),
  ]
  axes = figure_lib.Figure().subplots()
  figure.draw_curves(axes, curves)
  assert axes.get_ylim() == (-3, 103)
  axes = figure_lib.Figure().subplots()
  figure.draw_curves(axes, curves, percent=False)
  low, high = axes.get_ylim()
  assert low < -0.3 and high > 1.7


def test_a_folder_that_is_missing_is_one_line(tmp_path):
  with pytest.raises(errors.UserError, match='cannot be written'):
    figure.save(tmp_path / 'no' / 'x.png', [lambda axes: None], '')
