"""Exponential moving average of the parameters, with a warm-up."""

import chex
import jax
import jax.numpy as jnp


def ema_update(
  ema: chex.ArrayTree,
  new: chex.ArrayTree,
  step: int | jax.Array,
  decay: float = 0.99999,
) -> chex.ArrayTree:
  """Updates a moving average with the current values.

  The decay at step t is min(decay, (1 + t) / (10 + t)), so the average forgets
  the initial values early in a run. The second term reaches `decay` only after
  about 9 / (1 - decay) steps: at 0.99999 the published runs never get there
  and average over roughly their last ninth instead.

  Args:
    ema: the average so far, a pytree.
    new: the current values, a pytree of the same structure.
    step: t, the number of updates before this one (0 for the first).
    decay: the largest decay.

  Returns:
    The new average, in the dtypes of `ema`. Leaves that are not floats (such
    as counters) are copied from `new`.
  """
  # 1 - decay in Python's float64: float32 would be off by 0.1% at 0.99999.
  step = jnp.asarray(step, jnp.float32)
  rate = jnp.maximum(jnp.float32(1 - decay), 9 / (10 + step))

  def update(old: jax.Array, value: jax.Array) -> jax.Array:
    if not jnp.issubdtype(old.dtype, jnp.floating):
      return value
    return (old + rate * (value - old)).astype(old.dtype)

  with jax.named_scope('ema'):
    return jax.tree.map(update, ema, new)
