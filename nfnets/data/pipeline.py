"""Sources to batches: batch k is a pure function of (seed, k).

Threads, worker processes, hosts and the step at which a run resumes do not
change batch k; `positions` explains how.
"""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np

from nfnets import errors
from nfnets.data import (
  batches,
  crops,
  growth,
  images,
  pool,
  positions,
  presets,
  unreadable,
)
from nfnets.data import source as source_lib
from nfnets.runtime import cores

CropMode = Literal['squash', 'center']


class Reading(NamedTuple):
  """How this process reads its slice of every batch.

  Attributes:
    process_index: this process's index, 0 to process_count - 1.
    process_count: number of processes. Each makes one contiguous slice of
      every batch; together they read the images that one process would.
    num_threads: decoding threads in each process that makes batches; None
      uses all available cores, divided among the workers.
    num_workers: processes that make the batches. 0 makes them in this process,
      which is best while threads suffice: decoding a JPEG of 500x375 takes
      1.1 ms, of which it holds Python's lock for 0.03 ms, so threads can use
      about thirty cores.
    strict: whether an unreadable image is an error. Otherwise it is reported
      once and counted; training replaces it by the next readable example,
      evaluation masks it out.
    max_unreadable_share: fraction of the source's examples; more unreadable
      ones are an error.
    max_pixels: height * width above which an image is unreadable.
  """

  process_index: int = 0
  process_count: int = 1
  num_threads: int | None = None
  num_workers: int = 0
  strict: bool = False
  max_unreadable_share: float = 0.05
  max_pixels: int = images.MAX_PIXELS

  @property
  def policy(self) -> unreadable.Policy:
    """What to do about unreadable images."""
    return unreadable.Policy(self.strict, self.max_unreadable_share)


DEFAULT_READING = Reading()
"""One process, all cores, unreadable images tolerated."""


@dataclasses.dataclass(frozen=True)
class _Slice:
  """This process's slice of every global batch, and how it is made."""

  source: source_lib.Source
  batch_size: int
  rows: int
  offset: int
  num_threads: int
  policy: unreadable.Policy
  max_pixels: int

  def first(self, number: int) -> int:
    """Returns the position in the run of the slice's first row."""
    return number * self.batch_size + self.offset

  def blank(self, size: int) -> batches.Batch:
    """Returns a batch with uninitialized images, zero labels, full mask."""
    return {
      'image': np.empty((self.rows, size, size, 3), np.uint8),
      'label': np.zeros(self.rows, np.int32),
      'mask': np.ones(self.rows, bool),
    }


@dataclasses.dataclass(frozen=True)
class _TrainBatch:
  """Makes one process's slice of training batch k."""

  slice: _Slice
  stages: tuple[growth.Stage, ...]
  seed: int
  classes: positions.Classes | None
  area_range: tuple[float, float]
  aspect_range: tuple[float, float]
  scaled_decoding: bool

  def __call__(self, number: int) -> batches.Made:
    source, rows = self.slice.source, self.slice.rows
    first = self.slice.first(number)
    indices = positions.examples(
      self.seed, first, rows, len(source), self.classes
    )
    draws = positions.crop_draws(self.seed, first, rows)
    batch = self.slice.blank(growth.size_of(self.stages, number))

    def fill(row: int) -> list[unreadable.Unreadable]:
      def crop(data: bytes | np.ndarray) -> None:
        crops.random_resized_crop(
          data,
          draws[row],
          batch['image'][row],
          self.area_range,
          self.aspect_range,
          self.scaled_decoding,
          self.slice.max_pixels,
        )

      batch['label'][row], found = unreadable.read_or_neighbor(
        source, indices[row], crop, self.slice.policy
      )
      return found

    return batches.Made(
      batch, pool.in_threads(fill, rows, self.slice.num_threads)
    )


@dataclasses.dataclass(frozen=True)
class _EvalBatch:
  """Makes one process's slice of evaluation batch k."""

  slice: _Slice
  image_size: int
  preset: presets.EvalPreset
  crop_pct: float
  crop_mode: CropMode

  def __call__(self, number: int) -> batches.Made:
    source, rows = self.slice.source, self.slice.rows
    first = self.slice.first(number)
    batch = self.slice.blank(self.image_size)
    batch['mask'] = first + np.arange(rows) < len(source)
    batch['image'][~batch['mask']] = 0

    def fill(row: int) -> list[unreadable.Unreadable]:
      def crop(data: bytes | np.ndarray) -> None:
        crops.eval_crop(
          data,
          batch['image'][row],
          self.preset,
          self.crop_pct,
          self.crop_mode,
          self.slice.max_pixels,
        )

      try:
        batch['label'][row] = unreadable.read(source, first + row, crop)
      except source_lib.UnreadableError as error:
        # Masked, not replaced: its neighbor would count twice.
        batch['mask'][row] = False
        batch['image'][row] = 0
        return [unreadable.refuse_if_strict(error, self.slice.policy)]
      return []

    real = int(batch['mask'].sum())
    return batches.Made(
      batch, pool.in_threads(fill, real, self.slice.num_threads)
    )


def train_batches(
  source: source_lib.Source,
  *,
  batch_size: int,
  image_size: int | tuple[growth.Stage, ...],
  seed: int,
  classes: positions.Classes | None = None,
  area_range: tuple[float, float] = (0.08, 1.0),
  aspect_range: tuple[float, float] = (3 / 4, 4 / 3),
  scaled_decoding: bool = False,
  reading: Reading = DEFAULT_READING,
) -> batches.Batches:
  """Builds endless batches of random crops.

  Each epoch is a full permutation, unless classes are balanced. A batch may
  span two epochs, or more if the source is smaller than the batch.

  Args:
    source: see `sources.load_source`.
    batch_size: global batch size in images.
    image_size: side of the square crops, pixels; or one for each stage of the
      run, see `growth.stages`.
    seed: 0 to 2**64 - 1; batch k depends on the seed and k alone.
    classes: shows each equally often, see `positions.balanced_order`; None
      shows each example once per epoch.
    area_range: crop area / image area, smallest and largest.
    aspect_range: crop width / crop height, smallest and largest.
    scaled_decoding: see `crops.random_resized_crop`.
    reading: how this process reads its slice.

  Returns:
    Infinite `Batches`.

  Raises:
    UserError: the source is empty, the processes do not divide the batch, or
      the seed is out of range.
  """
  part = _slice(source, batch_size, reading)
  stages = image_size
  if isinstance(stages, int):
    stages = growth.constant(stages)
  if not 0 <= seed < 2**64:
    raise errors.UserError(f'seed {seed} is not in 0 ... 2**64 - 1')
  make = _TrainBatch(
    part, stages, seed, classes, area_range, aspect_range, scaled_decoding
  )
  ledger = unreadable.Ledger(
    len(source), reading.policy, 'the next readable one takes its place'
  )
  return batches.Batches(make, None, reading.num_workers, ledger)


def eval_batches(
  source: source_lib.Source,
  *,
  batch_size: int,
  image_size: int,
  preset: presets.EvalPreset = 'deepmind',
  crop_pct: float = 0.9,
  crop_mode: CropMode = 'squash',
  reading: Reading = DEFAULT_READING,
) -> batches.Batches:
  """Builds batches with every example once, in the source's order.

  The mask is False for rows that pad the last batch and for unreadable images;
  both are zero. Every process has the same number of batches.

  Args:
    source: see `sources.load_source`.
    batch_size: global batch size in images; need not divide the source.
    image_size: side of the square crops, pixels.
    preset: see `crops.eval_crop`.
    crop_pct: for 'timm', see `crops.eval_crop`.
    crop_mode: for 'timm', see `crops.eval_crop`.
    reading: how this process reads its slice.

  Returns:
    ceil(len(source) / batch_size) batches.

  Raises:
    UserError: the source is empty, the processes do not divide the batch, or
      preset, crop_pct or crop_mode is wrong.
  """
  part = _slice(source, batch_size, reading)
  crops.check_preset(preset, crop_pct, crop_mode)
  make = _EvalBatch(part, image_size, preset, crop_pct, crop_mode)
  ledger = unreadable.Ledger(len(source), reading.policy, 'it is not counted')
  length = -(-len(source) // batch_size)
  return batches.Batches(make, length, reading.num_workers, ledger)


def _slice(
  source: source_lib.Source, batch_size: int, reading: Reading
) -> _Slice:
  """Divides the batch among the processes, after checking the sizes."""
  index, count = reading.process_index, reading.process_count
  if not len(source):
    raise errors.UserError(f'{source.name}, split {source.split}: no examples')
  if batch_size < 1 or batch_size % count:
    below = max(batch_size // count, 1) * count
    raise errors.UserError(
      f'batch size {batch_size} is not divisible by {count} processes; the'
      f' nearest that are: {below} and {below + count}'
    )
  if not 0 <= index < count:
    raise ValueError(f'process_index {index} is not in 0 ... {count - 1}')
  rows = batch_size // count
  return _Slice(
    source,
    batch_size,
    rows,
    offset=index * rows,
    num_threads=reading.num_threads
    or max(1, cores.available() // max(1, reading.num_workers)),
    policy=reading.policy,
    max_pixels=reading.max_pixels,
  )
