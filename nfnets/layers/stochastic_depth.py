"""Stochastic depth: drops whole residual branches of single images.

References:
  Huang et al, `Deep Networks with Stochastic Depth
  <https://arxiv.org/abs/1603.09382>`_, 2016, section 3.
"""

from collections.abc import Sequence

import jax
from jax import numpy as jnp

from nfnets import xla


def draw_kept(
  keys: jax.Array, rates: Sequence[float], dtype: jnp.dtype
) -> list[jax.Array]:
  """Draws which images keep their residual branch, in every block.

  Images are independent, and so are blocks. As in the published networks, the
  branches that are kept are not divided by the probability of keeping them.

  Args:
    keys: one random key per image, key[batch]. An image's draws depend on its
      key alone.
    rates: for each block, the probability in [0, 1) of dropping the branch of
      an image.
    dtype: dtype of the factors.

  Returns:
    For each block a factor dtype[batch, 1, 1, 1] of the branch: 1 (keep) or 0.
  """
  keep = 1.0 - jnp.asarray(rates)
  draw = jax.vmap(jax.random.bernoulli, in_axes=(0, None), out_axes=1)
  drawn = draw(keys, keep).astype(dtype)
  factors = [row.reshape(-1, 1, 1, 1) for row in drawn]
  # Otherwise XLA copies the random generator into every block.
  return xla.materialize(factors)
