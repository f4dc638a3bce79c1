"""Geometry of the figures in a report: what `page.html` draws as SVG.

SVG in the page itself takes the colors of the reader's light or dark theme, and
shows the values behind a mark when the pointer is over it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nfnets import errors
from nfnets.report import numbers

WIDTH, HEIGHT = 460, 260
"""Size of a chart, in units of SVG."""
MATRIX_CLASSES = 50
"""Largest number of classes for which the confusion matrix is drawn."""

_LEFT, _TOP, _RIGHT, _BOTTOM = 52, 12, 12, 34  # margins of a chart
_MOST_POINTS = 300  # of a curve
_FEW_POINTS = 30
_NUMBERED = 20  # classes up to which the cells of the matrix show their counts
_SHOWN = 24  # letters of a class name beside the matrix
_LETTER = 7  # width of a letter

Curve = Sequence[tuple[int, float]]


class Tick(NamedTuple):
  """A mark on an axis: its place and its text."""

  at: float
  text: str


class Line(NamedTuple):
  """A curve.

  Attributes:
    name: its name in the legend.
    style: its number, from 0.
    dots: whether to mark its points, because they are few.
    points: the points of its polyline.
  """

  name: str
  style: int
  dots: bool
  points: str


class Chart(NamedTuple):
  """Curves over the steps of a run."""

  lines: list[Line]
  x_ticks: list[Tick]
  y_ticks: list[Tick]


class Bar(NamedTuple):
  """A bin of the reliability diagram, in fractions of the chart.

  Attributes:
    x: left end.
    width: width.
    accuracy: height.
    confidence: height of the mark for the mean confidence.
    text: the numbers.
  """

  x: float
  width: float
  accuracy: float
  confidence: float
  text: str


class Cell(NamedTuple):
  """An entry of the confusion matrix that is not 0.

  Attributes:
    row: the true class.
    column: the predicted class.
    number: the entry; '' if there is no space for it.
    fraction: part of the examples of the true class.
    text: the entry in words.
  """

  row: int
  column: int
  number: str
  fraction: float
  text: str


class Matrix(NamedTuple):
  """The confusion matrix.

  Attributes:
    names: the names beside it and above it.
    cells: its entries.
    step: side of a cell.
    left: width of the names beside it.
    top: height of the names above it.
  """

  names: list[str]
  cells: list[Cell]
  step: int
  left: int
  top: int


def chart(curves: Mapping[str, Curve]) -> Chart | None:
  """Lays out curves over steps.

  Args:
    curves: {name: (step, value) in order}; values that are not finite are
      omitted.

  Returns:
    The chart, None without a point.
  """
  kept = {
    name: [(step, y) for step, y in curve if math.isfinite(y)]
    for name, curve in curves.items()
  }
  points = [point for curve in kept.values() for point in curve]
  if not points:
    return None
  last = max(step for step, _ in points)
  low, high = (pick(y for _, y in points) for pick in (min, max))
  y_ticks = ticks(low, high)
  bottom, top = min(low, y_ticks[0]), max(high, y_ticks[-1])

  def x_at(step: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * step / max(1, last)

  def y_at(value: float) -> float:
    part = (value - bottom) / (top - bottom)
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * part

  return Chart(
    [
      Line(
        name,
        style,
        len(curve) <= _FEW_POINTS,
        ' '.join(f'{x_at(x):.1f},{y_at(y):.1f}' for x, y in _thin(curve)),
      )
      for style, (name, curve) in enumerate(kept.items())
      if curve
    ],
    [Tick(x_at(x), f'{x:g}') for x in ticks(0, last) if x <= last],
    [Tick(y_at(y), f'{y:g}') for y in y_ticks],
  )


def _thin(curve: Curve) -> Curve:
  """Keeps evenly spaced points and the last one."""
  every = math.ceil(len(curve) / _MOST_POINTS)
  return [*curve[:-1:every], curve[-1]]


def ticks(low: float, high: float) -> list[float]:
  """Returns three to seven round numbers that cover an interval.

  Args:
    low: its lower end.
    high: its upper end, at least `low`.
  """
  if not high > low:
    low, high = low - 0.5, high + 0.5
  rough = (high - low) / 5
  power = 10.0 ** math.floor(math.log10(rough))
  step = power * next(x for x in (1, 2, 5, 10) if x * power >= rough)
  first, last = math.floor(low / step), math.ceil(high / step)
  return [round(step * i, 12) for i in range(first, last + 1)]


def bars(calibration: numbers.Calibration) -> list[Bar]:
  """Lays out the bins of a reliability diagram that are not empty."""
  width = 1 / numbers.BINS
  columns = (calibration.images, calibration.confidence, calibration.accuracy)
  return [
    Bar(
      i * width,
      width,
      accuracy,
      confidence,
      f'{count:,} images: mean confidence {confidence:.1%},'
      f' accuracy {accuracy:.1%}',
    )
    for i, (count, confidence, accuracy) in enumerate(
      zip(*(column.tolist() for column in columns), strict=True)
    )
    if count
  ]


def matrix(
  pairs: numbers.Pairs, counts: Sequence[int], class_names: Sequence[str]
) -> Matrix | None:
  """Lays out the confusion matrix.

  Args:
    pairs: from `numbers.confusion`.
    counts: number of examples of each class.
    class_names: one per class.

  Returns:
    The matrix, None if there are too many classes to draw.
  """
  if len(class_names) > MATRIX_CLASSES:
    return None
  numbered = len(class_names) <= _NUMBERED
  cells = [
    Cell(
      true,
      predicted,
      str(count) if numbered else '',
      count / counts[true],
      f'{class_names[true]} predicted as {class_names[predicted]}:'
      f' {count} of {counts[true]}',
    )
    for true, predicted, count in zip(
      *(column.tolist() for column in pairs), strict=True
    )
  ]
  names = [_shortened(name) for name in class_names]
  longest = max(map(len, names)) * _LETTER
  return Matrix(
    names,
    cells,
    step=26 if numbered else 14,
    left=round(16 + longest),
    top=round(18 + 0.8 * longest),
  )


def _shortened(name: str) -> str:
  """Cuts a name in its middle: similar ones often differ at their ends."""
  name = errors.printable(name)
  if len(name) <= _SHOWN:
    return name
  end = _SHOWN // 2
  return f'{name[: _SHOWN - end - 1]}…{name[-end:]}'
