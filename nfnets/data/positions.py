"""Which example each position of a run shows, and the draws for its crop.

A run visits positions 0, 1, 2, ...: batch k of size B starts at position k * B.
All random numbers come from Philox, a counter-based generator, with the
position as counter (for the order of the examples: the epoch). No state passes
from one position to the next, so any process can compute any position directly.

Grain's own shuffle is not used: it adds the epoch to the seed, which makes runs
with adjacent seeds visit the examples in each other's order.
"""

import functools

import numpy as np

from nfnets.data import crops

# Philox's key is the seed and the purpose of the numbers.
_CROPS, _ORDER, _IN_CLASS = 0, 1, 2


class Classes:
  """The examples of every class that has any; picklable."""

  def __init__(self, labels: np.ndarray):
    """Groups examples by their labels, int[N]."""
    order = np.argsort(labels, kind='stable')
    _, starts = np.unique(labels[order], return_index=True)
    self.members: list[np.ndarray] = np.split(order, starts[1:])

  def __len__(self) -> int:
    """Returns the number of classes."""
    return len(self.members)


def examples(
  seed: int, first: int, count: int, length: int, classes: Classes | None = None
) -> list[int]:
  """Returns the examples at consecutive positions of a run.

  Args:
    seed: at least 0, below 2**64.
    first: the first position.
    count: number of positions.
    length: number of examples.
    classes: shows each class equally often; None shows each example once per
      epoch.
  """

  def order(epoch: int) -> np.ndarray:
    if classes is None:
      return epoch_order(seed, epoch, length)
    return balanced_order(seed, epoch, classes)

  epochs, indices = np.divmod(first + np.arange(count), length)
  return [
    int(order(epoch)[index])
    for epoch, index in zip(epochs.tolist(), indices.tolist(), strict=True)
  ]


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
  """Returns the order in which an epoch visits the examples.

  Args:
    seed: at least 0, below 2**64.
    epoch: the epoch's number, from 0.
    length: number of examples.

  Returns:
    A permutation, int64[length].
  """
  return _generator(seed, _ORDER, (0, epoch, 0, 0)).permutation(length)


@functools.lru_cache(maxsize=4)
def balanced_order(seed: int, epoch: int, classes: Classes) -> np.ndarray:
  """Returns the order of an epoch that shows every class equally often.

  An epoch has as many positions as there are examples. If the classes do not
  divide them, the rest goes to each class in turn, from epoch to epoch: since
  the start of the run, the counts of two classes differ by at most one. Each
  class shows its examples in one permutation after another, across epochs, so
  the counts of two examples of a class differ by at most one, too.

  Args:
    seed: at least 0, below 2**64.
    epoch: the epoch's number, from 0.
    classes: the examples.

  Returns:
    int64[length] for `length` examples in all classes; repeats those of small
    classes, and omits some of large ones.
  """
  length, count = sum(map(len, classes.members)), len(classes)
  drawn = []
  for number, members in enumerate(classes.members):
    # Class k has positions k, k + count, ... of the run, before the shuffle.
    first, stop = (
      max(0, -(-(n * length - number) // count)) for n in (epoch, epoch + 1)
    )
    cycles = range(first // len(members), -(-stop // len(members)))
    shown = np.concatenate(
      [_permuted(members, seed, number, cycle) for cycle in cycles]
    )
    skipped = cycles.start * len(members)
    drawn.append(shown[first - skipped : stop - skipped])
  return np.concatenate(drawn)[epoch_order(seed, epoch, length)]


def _permuted(
  members: np.ndarray, seed: int, number: int, cycle: int
) -> np.ndarray:
  """Returns the examples of class `number` in the order of one cycle."""
  counter = (0, cycle, number, 0)
  return _generator(seed, _IN_CLASS, counter).permutation(members)


def crop_draws(seed: int, first: int, count: int) -> np.ndarray:
  """Returns the random numbers for the crops at consecutive positions.

  Philox yields four numbers per counter, so position n has DRAWS_PER_CROP / 4
  counters from n * DRAWS_PER_CROP / 4, and its numbers depend only on
  (seed, n).

  Args:
    seed: at least 0, below 2**64.
    first: the first position.
    count: number of positions.

  Returns:
    float64[count, crops.DRAWS_PER_CROP], uniform in [0, 1).
  """
  counter = first * (crops.DRAWS_PER_CROP // 4)
  generator = _generator(seed, _CROPS, (counter, 0, 0, 0))
  return generator.random((count, crops.DRAWS_PER_CROP))


def _generator(
  seed: int, use: int, counter: tuple[int, int, int, int]
) -> np.random.Generator:
  # Philox would round lists with seeds of 2**63 or more to floating point.
  key = np.array([seed, use], np.uint64)
  bits = np.random.Philox(key=key, counter=np.array(counter, np.uint64))
  return np.random.Generator(bits)
