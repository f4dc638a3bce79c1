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
_CROPS, _ORDER = 0, 1


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
