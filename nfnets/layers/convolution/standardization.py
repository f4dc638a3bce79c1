"""Scaled weight standardization with its derivative written by hand.

`layers.ws_conv` has the definition, and uses this for every kernel. The
derivative that JAX would generate reads a large kernel several times, column by
column: on CPUs it takes six times as long as the formula below.
"""

import functools
import math

import jax
from jax import lax
from jax import numpy as jnp

from nfnets import xla


def standardize(
  weight: jax.Array, gain: jax.Array, *, floor: float, offset: float
) -> jax.Array:
  """Computes gain * (weight - mean) / sqrt(max(square, floor)) per filter.

  Mean and variance are taken over height, width and input channels, and
  square = (variance + offset) * fan_in.

  Args:
    weight: float[kh, kw, I, O].
    gain: float[O].
    floor: smallest value of the square.
    offset: number added to the variance.

  Returns:
    float[kh, kw, I, O], dtype of the weight; computed in float32.
  """
  return _standardize_once(floor, offset, weight, gain)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _standardize(
  floor: float, offset: float, weight: jax.Array, gain: jax.Array
) -> jax.Array:
  return _standardize_forward(floor, offset, weight, gain)[0]


def _standardize_forward(
  floor: float, offset: float, weight: jax.Array, gain: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  statistics = _statistics(floor, offset, weight)
  mean, root, _ = statistics
  scale = root * gain.reshape(1, 1, 1, -1)
  standardized = (weight.astype(jnp.float32) - mean) * scale
  return standardized.astype(weight.dtype), (weight, gain, statistics)


def _standardize_backward(
  floor: float,
  offset: float,
  residuals: tuple[jax.Array, ...],
  cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Computes the derivatives by weight w and gain g, per filter.

  With r = 1 / sqrt(square), c = w - mean(w) and cotangent d: dg = r sum(d c)
  and dw = g r (d - mean(d) - r^2 c sum(d c)). The last term is zero where the
  floor replaces the square. The code computes the bracket as
  d - slope w + (slope mean(w) - mean(d)) with slope = r^2 sum(d c).
  """
  del floor, offset
  weight, gain, (mean, root, follows) = residuals
  wide, d = weight.astype(jnp.float32), cotangent.astype(jnp.float32)
  axes, fan_in = (0, 1, 2), math.prod(weight.shape[:-1])
  total = jnp.sum(d, axes, keepdims=True)
  # sum(d c) without c, which XLA would write to memory before summing.
  product = jnp.sum(d * wide, axes, keepdims=True) - mean * total
  slope = follows * root**2 * product
  slope, offset_term, d_gain = _rows(
    slope, mean * slope - total / fan_in, root * product
  )
  scale = root * gain.reshape(1, 1, 1, -1)
  d_weight = scale * (d - wide * slope + offset_term)
  d_gain = d_gain.reshape(gain.shape)
  return d_weight.astype(weight.dtype), d_gain.astype(gain.dtype)


_standardize.defvjp(_standardize_forward, _standardize_backward)
_standardize_once = xla.trace_once(_standardize, static_argnums=(0, 1))


def _statistics(floor: float, offset: float, weight: jax.Array) -> jax.Array:
  """Computes mean, 1 / sqrt(max(square, floor)), and (square > floor).

  Sums of thousands of squares would lose two digits in bfloat16, so the result
  is float32[3, 1, 1, 1, O].
  """
  weight = weight.astype(jnp.float32)
  axes, fan_in = (0, 1, 2), math.prod(weight.shape[:-1])
  mean = jnp.sum(weight, axes, keepdims=True) / fan_in
  square = jnp.sum(jnp.square(weight - mean), axes, keepdims=True)
  if offset:
    square += offset * fan_in
  follows = (square > floor).astype(jnp.float32)
  return _rows(mean, lax.rsqrt(jnp.maximum(square, floor)), follows)


def _rows(*vectors: jax.Array) -> jax.Array:
  """Stacks one vector per statistic into the rows of an array."""
  # Otherwise XLA may sum a whole filter again wherever a statistic is used.
  return xla.materialize(jnp.stack(vectors))
