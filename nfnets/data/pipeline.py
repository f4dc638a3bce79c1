"""Sources to batches: batch k is a pure function of (seed, k).

So neither threads, worker processes, hosts nor the step at which a run is
resumed change what batch k holds; see `places` for how.
"""

import dataclasses

import numpy as np

from nfnets import errors
from nfnets.data import (
  batches,
  crops,
  places,
  pool,
  unreadable,
)
from nfnets.data import source as source_lib
from nfnets.runtime import cores


@dataclasses.dataclass(frozen=True)
class _Slice:
  """The part of every global batch that this process makes, and how."""

  source: source_lib.Source
  batch_size: int
  rows: int
  offset: int
  image_size: int
  num_threads: int
  policy: unreadable.Policy

  def first(self, number: int) -> int:
    """The place in the run of this process's first row of batch `number`."""
    return number * self.batch_size + self.offset

  def blank(self) -> batches.Batch:
    """A batch whose images are to be written, every one of them."""
    shape = (self.rows, self.image_size, self.image_size, 3)
    return {
      'image': np.empty(shape, np.uint8),
      'label': np.zeros(self.rows, np.int32),
      'mask': np.ones(self.rows, bool),
    }


@dataclasses.dataclass(frozen=True)
class _TrainBatch:
  """Makes one process's slice of training batch k."""

  slice: _Slice
  seed: int
  area_range: tuple[float, float]
  aspect_range: tuple[float, float]
  scaled_decoding: bool

  def __call__(self, number: int) -> batches.Made:
    source, rows = self.slice.source, self.slice.rows
    first = self.slice.first(number)
    indices = self._indices(first)
    draws = places.crop_draws(self.seed, first, rows)
    batch = self.slice.blank()

    def fill(row: int) -> list[unreadable.Unreadable]:
      def crop(data: bytes | np.ndarray) -> None:
        crops.random_resized_crop(
          data,
          draws[row],
          batch['image'][row],
          self.area_range,
          self.aspect_range,
          self.scaled_decoding,
        )

      batch['label'][row], found = unreadable.read_or_neighbor(
        source, indices[row], crop, self.slice.policy
      )
      return found

    return batches.Made(
      batch, pool.in_threads(fill, rows, self.slice.num_threads)
    )

  def _indices(self, first: int) -> list[int]:
    """The examples at the run's places from `first` on."""
    length = len(self.slice.source)
    epochs, indices = np.divmod(first + np.arange(self.slice.rows), length)
    return [
      int(places.epoch_order(self.seed, epoch, length)[index])
      for epoch, index in zip(epochs.tolist(), indices.tolist(), strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class _EvalBatch:
  """Makes one process's slice of evaluation batch k."""

  slice: _Slice
  preset: str
  crop_pct: float
  crop_mode: str

  def __call__(self, number: int) -> batches.Made:
    source, rows = self.slice.source, self.slice.rows
    first = self.slice.first(number)
    batch = self.slice.blank()
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
        )

      try:
        batch['label'][row] = unreadable.read(source, first + row, crop)
      except source_lib.UnreadableError as error:
        # A neighbour would be counted twice.
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
  image_size: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
  area_range: tuple[float, float] = (0.08, 1.0),
  aspect_range: tuple[float, float] = (3 / 4, 4 / 3),
  scaled_decoding: bool = False,
  num_threads: int | None = None,
  num_workers: int = 0,
  strict: bool = False,
  max_unreadable_share: float = 0.05,
) -> batches.Batches:
  """Endless batches of random crops; every epoch is a full permutation.

  A batch may span two epochs, or many where the source is smaller than it.

  Args:
    source: see `sources.load_source`.
    batch_size: images of all processes together.
    image_size: side of the square crops, pixels.
    seed: at least 0, below 2**64; with k it determines batch k.
    process_index: of this process.
    process_count: of all processes; each makes one contiguous slice of every
      batch, so that together they see the same images as one would.
    area_range: of the crops, as shares of the image's area.
    aspect_range: of the crops, width / height.
    scaled_decoding: see `crops.random_resized_crop`.
    num_threads: that decode, in each process that makes batches; all the cores
      that there are (shared among the workers) by default.
    num_workers: processes that make the batches; 0 makes them here, which is
      best while threads do: they hold Python's lock for 0.03 ms of the 1.1 ms
      that a JPEG of 500x375 takes, enough for about thirty cores.
    strict: whether an unreadable image is an error. If not, it is named once,
      counted, and the next readable example takes its place.
    max_unreadable_share: of the source's examples; more are an error.

  Returns:
    `Batches` without an end.

  Raises:
    UserError: the source is empty or the batch cannot be divided.
  """
  policy = unreadable.Policy(strict, max_unreadable_share)
  part = _slice(
    source,
    batch_size,
    image_size,
    (process_index, process_count),
    (num_threads, num_workers),
    policy,
  )
  if not 0 <= seed < 2**64:
    raise errors.UserError(f'seed {seed} is not in 0 ... 2**64 - 1')
  make = _TrainBatch(part, seed, area_range, aspect_range, scaled_decoding)
  ledger = unreadable.Ledger(
    len(source), policy, 'the next readable one takes its place'
  )
  return batches.Batches(make, None, num_workers, ledger)


def eval_batches(
  source: source_lib.Source,
  *,
  batch_size: int,
  image_size: int,
  preset: str = 'deepmind',
  crop_pct: float = 0.9,
  crop_mode: str = 'squash',
  process_index: int = 0,
  process_count: int = 1,
  num_threads: int | None = None,
  num_workers: int = 0,
  strict: bool = False,
  max_unreadable_share: float = 0.05,
) -> batches.Batches:
  """Every example once, in the source's order.

  The last batch is padded with images of zeros, their mask False; so are the
  places of unreadable images. Every process has the same number of batches.

  Args:
    source: see `sources.load_source`.
    batch_size: images of all processes together; any size.
    image_size: side of the square crops, pixels.
    preset: 'deepmind', 'deepmind_crop' or 'timm', see `crops.eval_crop`.
    crop_pct: for 'timm', see `crops.eval_crop`.
    crop_mode: for 'timm', see `crops.eval_crop`.
    process_index: as in `train_batches`.
    process_count: as in `train_batches`.
    num_threads: as in `train_batches`.
    num_workers: as in `train_batches`.
    strict: whether an unreadable image is an error. If not, it is named once,
      counted, and its mask is False.
    max_unreadable_share: of the source's examples; more are an error.

  Returns:
    ceil(len(source) / batch_size) batches.

  Raises:
    UserError: the source is empty or the batch cannot be divided.
    ValueError: an unknown preset or crop mode.
  """
  policy = unreadable.Policy(strict, max_unreadable_share)
  part = _slice(
    source,
    batch_size,
    image_size,
    (process_index, process_count),
    (num_threads, num_workers),
    policy,
  )
  crops.check_preset(preset, crop_pct, crop_mode)
  make = _EvalBatch(part, preset, crop_pct, crop_mode)
  ledger = unreadable.Ledger(len(source), policy, 'it is not counted')
  length = -(-len(source) // batch_size)
  return batches.Batches(make, length, num_workers, ledger)


def _slice(
  source: source_lib.Source,
  batch_size: int,
  image_size: int,
  process: tuple[int, int],
  parallel: tuple[int | None, int],
  policy: unreadable.Policy,
) -> _Slice:
  """Checks the sizes and divides the batch."""
  index, count = process
  num_threads, num_workers = parallel
  if not len(source):
    raise errors.UserError(f'{source.name}, split {source.split}: no examples')
  if batch_size < 1 or batch_size % count:
    below = max(batch_size // count, 1) * count
    raise errors.UserError(
      f'batch size {batch_size} cannot be divided among {count} processes;'
      f' the nearest that can are {below} and {below + count}'
    )
  if not 0 <= index < count:
    raise ValueError(f'process {index} of {count}')
  rows = batch_size // count
  threads = num_threads or max(1, cores.available() // max(1, num_workers))
  return _Slice(
    source, batch_size, rows, index * rows, image_size, threads, policy
  )
