"""Learning rates as functions of the step."""

import jax
import jax.numpy as jnp
import optax


def warmup_cosine(
  peak: float, warmup_steps: int, total_steps: int, end: float = 0.0
) -> optax.Schedule:
  """Returns a linear warm-up from 0 to `peak`, then half a cosine to `end`.

  With a warm-up, step 0 has rate 0. From `total_steps` on the rate stays at
  `end`. The published NFNet recipe has peak 0.1 * batch / 256, five epochs of
  warm-up and end 0; NF-RegNets have peak 0.4 and end 0.001.

  Args:
    peak: the rate at the end of the warm-up.
    warmup_steps: steps from 0 to the peak; 0 starts at the peak.
    total_steps: steps of the whole run, warm-up included.
    end: the rate at `total_steps`.

  Returns:
    A function from the step (int or int32[]) to the rate, float32[].

  Raises:
    ValueError: the warm-up is negative or is not shorter than the run.

  References:
    Brock et al, `High-Performance Large-Scale Image Recognition Without
    Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, appendix A.
  """
  if not 0 <= warmup_steps < total_steps:
    raise ValueError(
      f'a warm-up of {warmup_steps} steps does not fit in {total_steps} steps'
    )
  warmup = warmup_constant(peak, warmup_steps)

  def schedule(step: jax.typing.ArrayLike) -> jax.Array:
    step = jnp.asarray(step, jnp.float32)
    done = (step - warmup_steps) / (total_steps - warmup_steps)
    cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0.0, 1.0)))
    decayed = end + (peak - end) * cosine
    return jnp.where(step < warmup_steps, warmup(step), decayed)

  return schedule


def warmup_constant(peak: float, warmup_steps: int = 0) -> optax.Schedule:
  """Returns a linear warm-up from 0 to `peak`, then a constant rate.

  Args:
    peak: the rate at and after the end of the warm-up.
    warmup_steps: steps from 0 to the peak; 0 starts at the peak.

  Returns:
    A function from the step (int or int32[]) to the rate, float32[].

  Raises:
    ValueError: the warm-up is negative.
  """
  if warmup_steps < 0:
    raise ValueError(f'warmup_steps must not be negative, got {warmup_steps}')

  def schedule(step: jax.typing.ArrayLike) -> jax.Array:
    done = jnp.asarray(step, jnp.float32) / max(warmup_steps, 1)
    return peak * jnp.minimum(done, 1.0) if warmup_steps else jnp.float32(peak)

  return schedule
