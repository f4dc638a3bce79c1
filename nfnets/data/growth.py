"""Image sizes that grow during a run, in a few stages.

References:
  Tan and Le, `EfficientNetV2: Smaller Models and Faster Training
  <https://arxiv.org/abs/2104.00298>`_, 2021, algorithm 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

COUNT = 4  # stages, all of the same length
_COARSE, _FINE = 32, 8


class Stage(NamedTuple):
  """A part of a run with one image size.

  Attributes:
    first: number of the first batch, from 0.
    size: side of the images in pixels.
  """

  first: int
  size: int


def constant(size: int) -> tuple[Stage, ...]:
  """Returns the only stage of a run in which all images have one size."""
  return (Stage(0, size),)


def stages(smallest: int, largest: int, total: int) -> tuple[Stage, ...]:
  """Divides a run into four parts of growing image size.

  The sizes are evenly spaced. Those between the smallest and the largest are
  rounded to multiples of 32 pixels, or of 8 if the stages would otherwise not
  differ.

  Args:
    smallest: size in the first quarter of the run, pixels.
    largest: size in the last quarter, pixels; at least `smallest`.
    total: number of batches.

  Returns:
    The stages in order. Neighbors of equal size are merged, and those that a
    very short run has no batch for are omitted.
  """
  result: list[Stage] = []
  for number in range(COUNT):
    first = total * number // COUNT
    size = _size(smallest, largest, number)
    if result and result[-1].first == first:
      result.pop()
    if not result or result[-1].size != size:
      result.append(Stage(first, size))
  return tuple(result)


def _size(smallest: int, largest: int, number: int) -> int:
  """Returns the size of a stage."""
  last = COUNT - 1
  if number in (0, last):
    return largest if number else smallest
  unit = _COARSE if largest - smallest >= _COARSE * last else _FINE
  exact = smallest + (largest - smallest) * number / last
  return min(max(round(exact / unit) * unit, smallest), largest)


def size_of(stages: Sequence[Stage], batch: int) -> int:
  """Returns the size of the images in a batch, pixels.

  Args:
    stages: the stages of the run, in order.
    batch: the batch's number, from 0.
  """
  return next(s.size for s in reversed(stages) if s.first <= batch)
