"""Batches by number, and an iterator that makes them ahead (Grain)."""

import re
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypedDict

import numpy as np

from nfnets import errors
from nfnets.data import unreadable, workers


class Batch(TypedDict):
  """One process's slice of a global batch, b rows."""

  image: np.ndarray  # uint8[b, S, S, 3]
  label: np.ndarray  # int32[b]
  mask: np.ndarray  # bool[b], False for padding


_PREFETCHED = 2


class Made(NamedTuple):
  """A batch and what could not be read while it was made."""

  batch: Batch
  unreadable: list[unreadable.Unreadable]


class Batches:
  """A sequence of batches, infinite for training; `batches[k]` is pure.

  Attributes:
    unreadable: the unreadable examples met so far, id -> reason.
  """

  def __init__(
    self,
    make: Callable[[int], Made],
    length: int | None,
    num_workers: int,
    ledger: unreadable.Ledger,
  ):
    """Wraps `make(k)`, pure and picklable.

    Args:
      make: makes batch k.
      length: the number of batches; None if there is no end.
      num_workers: processes that make batches ahead; 0 for threads alone.
      ledger: keeps account of unreadable examples.
    """
    self._make = make
    self._length = length
    self._num_workers = num_workers
    self._ledger = ledger
    self.unreadable = ledger.found

  def __len__(self) -> int:
    """The number of batches, where there is an end."""
    if self._length is None:
      raise TypeError('training batches have no end')
    return self._length

  def __getitem__(self, number: int) -> Batch:
    """Batch `number`, made now."""
    if number < 0 or (self._length is not None and number >= self._length):
      raise IndexError(f'there is no batch {number}')
    made = self._make(number)
    self._ledger.add(made.unreadable)
    return made.batch

  def __iter__(self) -> 'BatchIterator':
    """All batches from the first, made ahead."""
    return self.iterate()

  def iterate(self, start: int = 0) -> 'BatchIterator':
    """The batches from number `start` on, made ahead of their use."""
    import grain  # Takes a second, which those who only index need not wait.

    stop = sys.maxsize if self._length is None else self._length
    # Two threads, so that the tail of one batch overlaps the next.
    ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=_PREFETCHED)
    dataset = (
      grain.MapDataset.range(start, max(start, stop))
      .map(self._make)
      .to_iter_dataset(ahead)
    )
    if self._num_workers:
      _let_grain_read_its_flags()
      options = grain.MultiprocessingOptions(
        num_workers=self._num_workers, per_worker_buffer_size=1
      )
      dataset = dataset.mp_prefetch(options, workers.start)
    return BatchIterator(iter(dataset), self._num_workers > 0, self._ledger)


def _let_grain_read_its_flags() -> None:
  """Grain reads an absl flag when it starts workers; defaults will do."""
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


class BatchIterator(Iterator[Batch]):
  """Yields batches; `close()` ends what makes them."""

  def __init__(self, made: Any, copies: bool, ledger: unreadable.Ledger):
    """Wraps a Grain iterator of `Made`, which `copies` out of its memory."""
    self._made = made
    self._copies = copies
    self._ledger = ledger
    # At the latest when the program ends: Grain's own clean-up comes too late.
    self._finalizer = weakref.finalize(self, made.close)

  def __next__(self) -> Batch:
    """The next batch.

    Raises:
      UserError: too much is unreadable, a label is out of range, a record file
        is damaged, or a worker process died.
    """
    try:
      made = next(self._made)
    except RuntimeError as error:
      died = re.search(r'exit code (-?\d+)', str(error))
      if not died:
        raise
      self.close()
      raise errors.UserError(
        f'a data worker died (exit status {died[1]}), perhaps for want of'
        ' memory, or of room in /dev/shm: fewer workers or smaller batches need'
        ' less'
      ) from None
    self._ledger.add(made.unreadable)
    if not self._copies:
      return made.batch
    # Grain's shared memory must be gone before the program ends.
    return Batch(
      image=np.array(made.batch['image']),
      label=np.array(made.batch['label']),
      mask=np.array(made.batch['mask']),
    )

  def close(self) -> None:
    """Ends the threads and worker processes; no batch can follow."""
    self._finalizer()
    self._made = iter(())
