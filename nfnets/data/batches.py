"""Random access to batches, and an iterator that prefetches them (Grain)."""

import functools
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np

from nfnets import errors
from nfnets.data import unreadable, workers

if TYPE_CHECKING:
  import grain

_PREFETCHED = 2


class Batch(TypedDict):
  """One process's part of a batch of b images, S pixels wide and high."""

  image: np.ndarray
  """uint8[b, S, S, 3]."""
  label: np.ndarray
  """int32[b]."""
  mask: np.ndarray
  """bool[b]; False for rows that do not count."""


class Made(NamedTuple):
  """A batch, and the unreadable examples found while making it."""

  batch: Batch
  unreadable: list[unreadable.Unreadable]


class Batches:
  """A sequence of batches, infinite for training; `batches[k]` is pure.

  Attributes:
    unreadable: the unreadable examples found so far, id -> reason.
  """

  def __init__(
    self,
    make: Callable[[int], Made],
    length: int | None,
    num_workers: int,
    ledger: unreadable.Ledger,
  ):
    """Wraps a pure and picklable function.

    Args:
      make: makes batch k.
      length: the number of batches; None if there is no end.
      num_workers: number of processes that prefetch batches; 0 prefetches with
        threads only.
      ledger: counts unreadable examples.
    """
    self._make = make
    self._length = length
    self._num_workers = num_workers
    self._ledger = ledger
    self.unreadable = ledger.found

  def __len__(self) -> int:
    """Returns the number of batches.

    Raises:
      TypeError: there is no end.
    """
    if self._length is None:
      raise TypeError('training batches have no end')
    return self._length

  def __getitem__(self, number: int) -> Batch:
    """Makes batch `number`.

    Raises:
      IndexError: there is no such batch.
      UserError: as in `BatchIterator.__next__`.
    """
    if number < 0 or (self._length is not None and number >= self._length):
      raise IndexError(f'there is no batch {number}')
    made = self._make(number)
    self._ledger.add(made.unreadable)
    return made.batch

  def __iter__(self) -> 'BatchIterator':
    """Iterates over all batches, prefetching them."""
    return self.iterate()

  def iterate(self, start: int = 0) -> 'BatchIterator':
    """Iterates over the batches from number `start`, prefetching them."""
    import grain  # Takes a second, which indexing does not need.

    stop = sys.maxsize if self._length is None else self._length
    make = functools.partial(_make_or_end, self._make, stop)
    # With two threads, the end of one batch overlaps the start of the next.
    ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=_PREFETCHED)
    dataset = (
      grain.MapDataset.range(start, sys.maxsize)
      .map(make)
      .to_iter_dataset(ahead)
    )
    if self._num_workers:
      _mark_flags_as_parsed()
      options = grain.MultiprocessingOptions(
        num_workers=self._num_workers, per_worker_buffer_size=1
      )
      dataset = dataset.mp_prefetch(options, workers.start)
    return BatchIterator(iter(dataset), self._num_workers > 0, self._ledger)


def _make_or_end(
  make: Callable[[int], Made], stop: int, number: int
) -> Made | tuple[()]:
  """Makes batch `number`, or returns () from number `stop` on.

  A Grain iterator that has reached its end keeps its shared memory and
  semaphores until Python collects its reference cycles. If it is closed before
  its end, it releases them immediately, so Grain never sees an end.
  """
  return make(number) if number < stop else ()


def _mark_flags_as_parsed() -> None:
  """Lets Grain read an absl flag when it starts workers, at its default."""
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


class BatchIterator(Iterator[Batch]):
  """Yields batches; `close()` ends the threads and processes that make them."""

  def __init__(
    self,
    made: 'grain.DatasetIterator[Made | tuple[()]]',
    copies: bool,
    ledger: unreadable.Ledger,
  ):
    """Wraps a Grain iterator.

    Args:
      made: yields the batches, then () without end.
      copies: whether to copy them out of Grain's shared memory.
      ledger: counts unreadable examples.
    """
    self._made: Iterator[Made | tuple[()]] = made
    self._copies = copies
    self._ledger = ledger
    # Runs when the program ends, if not before: Grain cleans up too late.
    self._finalizer = weakref.finalize(self, made.close)

  def __next__(self) -> Batch:
    """Returns the next batch.

    Raises:
      UserError: too many images are unreadable, a label is out of range, a
        record file is damaged, or a worker process died.
    """
    try:
      made = next(self._made)
    except RuntimeError as error:
      died = re.search(r'exit code (-?\d+)', str(error))
      if not died:
        raise
      self.close()
      raise errors.UserError(
        f'a data worker died (exit status {died[1]}), perhaps for lack of'
        ' memory or of space in /dev/shm: use fewer workers or smaller batches'
      ) from None
    if not made:
      self.close()
      raise StopIteration
    self._ledger.add(made.unreadable)
    if not self._copies:
      return made.batch
    # Grain's shared memory must be released before the program ends.
    return {
      'image': np.array(made.batch['image']),
      'label': np.array(made.batch['label']),
      'mask': np.array(made.batch['mask']),
    }

  def close(self) -> None:
    """Ends the threads and worker processes, and the iteration."""
    self._finalizer()
    self._made = iter(())
