"""Stochastic depth: whole residual branches dropped per image.

References:
  Huang et al, `Deep Networks with Stochastic Depth
  <https://arxiv.org/abs/1603.09382>`_, 2016.
"""

import haiku as hk
import jax


def drop_branch(key: jax.Array, branch: jax.Array, rate: float) -> jax.Array:
  """Sets the branch to zero for a random share of the images.

  What is kept is not divided by the keep probability, as published; each image
  of the batch is drawn on its own.

  Args:
    key: of the random draw.
    branch: float[B, ...].
    rate: probability in [0, 1) of dropping an image's branch.

  Returns:
    float[B, ...], dtype of the branch.
  """
  shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
  keep = jax.random.bernoulli(key, 1.0 - rate, shape)
  return branch * keep.astype(branch.dtype)


def maybe_drop(branch: jax.Array, rate: float, is_training: bool) -> jax.Array:
  """`drop_branch` in training with a rate above 0, else the branch as it is.

  Called inside a Haiku module, whose next key it takes.
  """
  if not is_training or rate == 0.0:
    return branch
  return drop_branch(hk.next_rng_key(), branch, rate)
