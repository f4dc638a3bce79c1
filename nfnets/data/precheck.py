"""Finds out before a run whether the images of a split can be read."""

import math

import numpy as np

from nfnets.data import images, pool, unreadable
from nfnets.data import source as source_lib
from nfnets.runtime import cores

_SAMPLE_SIZE = 500


def check(
  source: source_lib.Source, policy: unreadable.Policy, max_pixels: int
) -> None:
  """Checks before a run that not too many images of a split are unreadable.

  Decodes all images of a small split, and 500 evenly spaced ones of a large
  one. That takes seconds, while the run would find them after the compilation
  or, in the held-out split, in the first evaluation.

  Args:
    source: the split.
    policy: how many unreadable ones are tolerated.
    max_pixels: see `images.decode`.

  Raises:
    UserError: there are more of them than the policy tolerates, in a sample by
      more than chance explains.
  """
  count = min(_SAMPLE_SIZE, len(source))

  def decode(data: bytes | np.ndarray) -> None:
    images.decode(data, reduction=8, max_pixels=max_pixels)

  def examine(row: int) -> list[unreadable.Unreadable]:
    try:
      unreadable.read(source, row * len(source) // count, decode)
    except source_lib.UnreadableError as error:
      return [unreadable.refuse_if_strict(error, policy)]
    return []

  found = pool.in_threads(examine, count, cores.available())
  # Three standard deviations of a small count.
  chance = 3 * math.sqrt(len(found)) if count < len(source) else 0
  if (
    len(found) > policy.limit(len(source))
    or len(found) - chance > policy.max_share * count
  ):
    raise unreadable.too_many(len(found), count, policy, found[0])
