"""Stochastic depth: whole residual branches dropped per image.

References:
  Huang et al, `Deep Networks with Stochastic Depth
  <https://arxiv.org/abs/1603.09382>`_, 2016.
"""

from collections.abc import Sequence

import jax
from jax import numpy as jnp

from nfnets import xla


def draw_kept(
  key: jax.Array, rates: Sequence[float], batch: int, dtype: jnp.dtype
) -> list[jax.Array]:
  """Which images keep their residual branch, for all blocks in one draw.

  What is kept is not divided by the keep probability, as published; each image
  of the batch is drawn on its own.

  Args:
    key: of the random draw.
    rates: for each block, the probability in [0, 1) of dropping an image's
      branch.
    batch: number of images.
    dtype: of the factors.

  Returns:
    For each block dtype[batch, 1, 1, 1]: 1 or 0, to be multiplied with the
    branch.
  """
  keep = 1.0 - jnp.asarray(rates)[:, None]
  drawn = jax.random.bernoulli(key, keep, (len(rates), batch)).astype(dtype)
  factors = [row.reshape(batch, 1, 1, 1) for row in drawn]
  return xla.materialize(factors)
