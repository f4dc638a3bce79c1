"""Exponential moving average of the parameters, with a warm-up."""

from typing import Any

import jax
import jax.numpy as jnp


def ema_update(
  ema: Any, new: Any, step: int | jax.Array, decay: float = 0.99999
) -> Any:
  """One update of a moving average.

  The decay of step t is min(decay, (1 + t) / (10 + t)), so that the average
  forgets the initial values early in a run. It takes 9 / (1 - decay) steps to
  come under `decay`: at 0.99999 the published runs never get there and average
  over about their last ninth instead.

  Args:
    ema: the average so far, a pytree.
    new: the present values, a pytree of the same structure.
    step: t, updates made before this one (0 for the first).
    decay: the largest decay.

  Returns:
    The new average, in the dtypes of `ema`. Leaves that are not floats (such
    as counters) are taken from `new`.
  """
  # 1 - decay in Python's float64: in float32 it would be off by 1% at 0.99999.
  step = jnp.asarray(step, jnp.float32)
  rate = jnp.maximum(jnp.float32(1 - decay), 9 / (10 + step))

  def update(old: jax.Array, value: jax.Array) -> jax.Array:
    if not jnp.issubdtype(old.dtype, jnp.floating):
      return value
    return (old + rate * (value - old)).astype(old.dtype)

  with jax.named_scope('ema'):
    return jax.tree.map(update, ema, new)
