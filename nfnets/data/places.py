"""What the place of an example in the run decides: which it is, and its crop.

Every random number comes from Philox, a counter-based generator, at a counter
that is the place (or, for the order of examples, the epoch). Nothing is carried
from one place to the next, so any place can be had at once, by anybody.

Grain's own shuffle is not used: it adds the epoch's number to the seed, so that
runs with neighbouring seeds visit the examples in each other's order.
"""

import functools

import numpy as np

from nfnets.data import crops

# Philox's key is the seed and what the numbers are for.
_CROPS, _ORDER = 0, 1


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
  """The permutation int64[length] in which an epoch visits the examples."""
  return _generator(seed, _ORDER, (0, epoch, 0, 0)).permutation(length)


def crop_draws(seed: int, first: int, count: int) -> np.ndarray:
  """What the crops at consecutive places of the run are drawn from.

  Philox yields four numbers per counter, so place n owns the counters from
  n * DRAWS_PER_CROP / 4 on, and its numbers depend on (seed, n) alone.

  Returns:
    float64[count, crops.DRAWS_PER_CROP], uniform in [0, 1).
  """
  counter = first * (crops.DRAWS_PER_CROP // 4)
  generator = _generator(seed, _CROPS, (counter, 0, 0, 0))
  return generator.random((count, crops.DRAWS_PER_CROP))


def _generator(
  seed: int, use: int, counter: tuple[int, int, int, int]
) -> np.random.Generator:
  # As lists, seeds from 2**63 on would be rounded to floating point.
  key = np.array([seed, use], np.uint64)
  bits = np.random.Philox(key=key, counter=np.array(counter, np.uint64))
  return np.random.Generator(bits)
