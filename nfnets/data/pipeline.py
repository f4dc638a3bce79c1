"""Sources to batches: batch k is a pure function of (seed, k)."""

import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grain
import numpy as np

from nfnets import errors
from nfnets.data import crops, images, sources

Batch = dict[str, np.ndarray]
"""'image' uint8[b, S, S, 3], 'label' int32[b], 'mask' bool[b]."""


class Batches:
  """Batches by number; infinite unless `length` is given."""

  def __init__(
    self, make: Callable[[int], Batch], length: int | None, num_workers: int
  ):
    """Wraps `make(k) -> batch k`, a pure and picklable function."""
    self._make = make
    self._length = length
    self._num_workers = num_workers

  def __len__(self) -> int:
    """The number of batches, where it is finite."""
    if self._length is None:
      raise TypeError('training batches have no end')
    return self._length

  def __getitem__(self, number: int) -> Batch:
    """Batch `number`."""
    if number < 0 or (self._length is not None and number >= self._length):
      raise IndexError(f'no batch {number}')
    return self._make(number)

  def __iter__(self) -> Iterator[Batch]:
    """All batches from the first."""
    return self.iterate()

  def iterate(self, start: int = 0) -> Any:
    """Batches from `start` on, made ahead; close() ends the threads."""
    stop = sys.maxsize if self._length is None else self._length
    dataset = (
      grain.MapDataset.range(start, stop)
      .map(self._make)
      .to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=2))
    )
    return iter(dataset)


def default_num_threads() -> int:
  """The cores that this process may use."""
  return len(os.sched_getaffinity(0))


@functools.cache
def _pool(num_threads: int) -> futures.ThreadPoolExecutor:
  return futures.ThreadPoolExecutor(num_threads, 'nfnets-decode')


def _fill_rows(fill: Callable[[int], None], rows: int, num_threads: int):
  """Calls fill(0), ..., fill(rows - 1), in threads."""
  counter = itertools.count()

  def drain() -> None:
    while (row := next(counter)) < rows:
      fill(row)

  pool = _pool(num_threads)
  for future in [pool.submit(drain) for _ in range(num_threads)]:
    future.result()


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
  """The permutation int64[length] in which an epoch visits the examples."""
  generator = np.random.Philox(key=[seed, 1], counter=[0, epoch, 0, 0])
  return np.random.Generator(generator).permutation(length)


def _crop_draws(seed: int, first: int, count: int) -> np.ndarray:
  """Uniform draws float64[count, DRAWS_PER_CROP] of consecutive positions.

  Philox makes four numbers per count of its counter, so each position has
  counts of its own and its draws depend on nothing else.
  """
  counter = first * crops.DRAWS_PER_CROP // 4
  generator = np.random.Philox(key=[seed, 0], counter=[counter, 0, 0, 0])
  shape = (count, crops.DRAWS_PER_CROP)
  return np.random.Generator(generator).random(shape)


class _TrainBatch:
  """Makes one process's slice of training batch k."""

  def __init__(self, source: sources.Source, **settings: Any):
    self.source = source
    self.__dict__.update(settings)

  def __call__(self, number: int) -> Batch:
    first = number * self.batch_size + self.offset
    positions = np.arange(first, first + self.rows)
    epochs, places = np.divmod(positions, len(self.source))
    draws = _crop_draws(self.seed, first, self.rows)
    image = np.empty((self.rows, self.image_size, self.image_size, 3), np.uint8)
    label = np.empty(self.rows, np.int32)

    def fill(row: int) -> None:
      order = epoch_order(self.seed, int(epochs[row]), len(self.source))
      example = self.source[int(order[places[row]])]
      crops.random_resized_crop(
        example['image'],
        draws[row],
        image[row],
        self.area_range,
        self.aspect_range,
      )
      label[row] = example['label']

    _fill_rows(fill, self.rows, self.num_threads)
    return {'image': image, 'label': label, 'mask': np.ones(self.rows, bool)}


class _EvalBatch:
  """Makes one process's slice of evaluation batch k."""

  def __init__(self, source: sources.Source, **settings: Any):
    self.source = source
    self.__dict__.update(settings)

  def __call__(self, number: int) -> Batch:
    first = number * self.batch_size + self.offset
    image = np.zeros((self.rows, self.image_size, self.image_size, 3), np.uint8)
    label = np.zeros(self.rows, np.int32)
    mask = np.arange(first, first + self.rows) < len(self.source)

    def fill(row: int) -> None:
      if not mask[row]:
        return
      example = self.source[first + row]
      crops.eval_crop(images.decode(example['image']), image[row], self.preset, self.crop_pct, self.crop_mode)
      label[row] = example['label']

    _fill_rows(fill, self.rows, self.num_threads)
    return {'image': image, 'label': label, 'mask': mask}


def _rows(batch_size: int, process_count: int) -> int:
  if batch_size < 1 or batch_size % process_count:
    raise errors.UserError(
      f'batch size {batch_size} is not a multiple of the {process_count}'
      ' processes'
    )
  return batch_size // process_count


def train_batches(
  source: sources.Source,
  *,
  batch_size: int,
  image_size: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
  area_range: tuple[float, float] = (0.08, 1.0),
  aspect_range: tuple[float, float] = (3 / 4, 4 / 3),
  num_threads: int | None = None,
  num_workers: int = 0,
) -> Batches:
  """Endless shuffled batches of random crops."""
  rows = _rows(batch_size, process_count)
  make = _TrainBatch(
    source,
    batch_size=batch_size,
    rows=rows,
    offset=process_index * rows,
    image_size=image_size,
    seed=seed,
    area_range=area_range,
    aspect_range=aspect_range,
    num_threads=num_threads or default_num_threads(),
  )
  return Batches(make, None, num_workers)


def eval_batches(
  source: sources.Source,
  *,
  batch_size: int,
  image_size: int,
  preset: str = 'deepmind',
  crop_pct: float = 0.875,
  crop_mode: str = 'center',
  process_index: int = 0,
  process_count: int = 1,
  num_threads: int | None = None,
  num_workers: int = 0,
) -> Batches:
  """All examples in order, once; the last batch is padded with mask False."""
  rows = _rows(batch_size, process_count)
  make = _EvalBatch(
    source,
    batch_size=batch_size,
    rows=rows,
    offset=process_index * rows,
    image_size=image_size,
    preset=preset, crop_pct=crop_pct, crop_mode=crop_mode,
    num_threads=num_threads or default_num_threads(),
  )
  return Batches(make, -(-len(source) // batch_size), num_workers)
