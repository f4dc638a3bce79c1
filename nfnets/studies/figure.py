"""Figures of studies, drawn by Matplotlib without a display."""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib import axes as axes_lib
from matplotlib import figure as figure_lib
from matplotlib import ticker

from nfnets import errors, files
from nfnets.studies import summary

_DPI = 110
_MARGIN = 3  # percentage points below 0 and above 100%, for markers
_COLORS = (
  '#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000',
)  # fmt: skip
_MARKERS = 'osD^vPX'


class Curve(NamedTuple):
  """A curve with error bars.

  Attributes:
    label: its name in the legend.
    xs: the horizontal positions.
    ys: an estimate for each.
  """

  label: str
  xs: Sequence[float]
  ys: Sequence[summary.Estimate]


def save(
  path: pathlib.Path,
  panels: Sequence[Callable[[axes_lib.Axes], None]],
  caption: str,
) -> None:
  """Draws panels side by side and saves them as a PNG.

  Args:
    path: the file.
    panels: each draws one.
    caption: a line below them.

  Raises:
    UserError: the file cannot be written.
  """
  figure = figure_lib.Figure(
    figsize=(4.6 * len(panels), 3.8), layout='constrained'
  )
  grid = figure.subplots(1, len(panels), squeeze=False)[0]
  for axes, draw in zip(grid, panels, strict=True):
    draw(axes)
    axes.grid(alpha=0.3)
  figure.supxlabel(caption, fontsize=7)
  try:
    with files.replacing(path) as temporary:
      figure.savefig(temporary, format='png', dpi=_DPI)
  except OSError as error:
    raise errors.UserError(
      f'{path} cannot be written ({error.strerror}): free some space, or choose'
      ' another --out'
    ) from error


def draw_curves(
  axes: axes_lib.Axes,
  curves: Sequence[Curve],
  percent: bool = True,
  joined: bool = True,
) -> None:
  """Draws curves with error bars; a cross at the bottom marks divergence.

  Args:
    axes: where to draw.
    curves: the curves. A point without a run is left out.
    percent: whether the values are fractions, drawn in percent. The axis ends
      at 0 and 100%, also where an interval of few seeds reaches beyond.
    joined: whether to draw lines between the points.
  """
  scale = 100 if percent else 1
  for index, curve in enumerate(curves):
    shade = color(index)
    marker = _MARKERS[index % len(_MARKERS)]
    # Without an error bar at NaN; a line has a gap at NaN.
    axes.errorbar(
      curve.xs,
      [scale * y.mean for y in curve.ys],
      yerr=[scale * y.half_width for y in curve.ys],
      label=curve.label,
      color=shade,
      marker=marker,
      markersize=4,
      linestyle='-' if joined else '',
      linewidth=1.2,
      capsize=2,
    )
    diverged = [
      x for x, y in zip(curve.xs, curve.ys, strict=True) if y.diverged
    ]
    if diverged:
      # One above the other, so that curves do not hide each other.
      height = 0.03 + 0.04 * index
      axes.plot(
        diverged,
        [height] * len(diverged),
        'x',
        color=shade,
        transform=axes.get_xaxis_transform(),
      )
  if percent:
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -_MARGIN), min(high, 100 + _MARGIN))
  axes.legend(fontsize=7)


def color(index: int) -> str:
  """Returns the color of a curve of `draw_curves`."""
  return _COLORS[index % len(_COLORS)]


def use_integers(axes: axes_lib.Axes) -> None:
  """Makes the ticks of the horizontal axis whole numbers."""
  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))


def use_log_axis(axes: axes_lib.Axes, ticks: Sequence[float]) -> None:
  """Makes the horizontal axis logarithmic, with ticks at the given values."""
  axes.set_xscale('log', base=2)
  axes.set_xticks(ticks, [f'{x:g}' for x in ticks])
  axes.minorticks_off()
