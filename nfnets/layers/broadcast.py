"""Broadcasts small parameters, with gradients that are summed in float32.

The gradient of a bias is the sum of an array over images and positions, and so
is that of a gain. JAX sums in the dtype of the array: in bfloat16 a sum of
thousands of numbers stops growing.
"""

import jax
from jax import numpy as jnp


def broadcast_to(values: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Broadcasts values to a shape, like `jnp.broadcast_to`."""
  return jnp.broadcast_to(_wide(values), shape).astype(values.dtype)


@jax.custom_jvp
def add_bias(
  inputs: jax.Array, bias: jax.Array, kept: jax.typing.ArrayLike = 1.0
) -> jax.Array:
  """Returns kept * (inputs + bias).

  Args:
    inputs: float[B, ..., C]. If an image is not kept, they must be zero for
      every value of the parameters, because their gradient is not multiplied by
      `kept` again.
    bias: float[C].
    kept: float[B, 1, ..., 1] of zeros and ones; not differentiated.

  Returns:
    float[B, ..., C], dtype of the inputs.
  """
  return kept * (inputs + jnp.broadcast_to(bias, inputs.shape))


@add_bias.defjvp
def _add_bias_jvp(
  primals: tuple[jax.Array, jax.Array, jax.typing.ArrayLike],
  tangents: tuple[jax.Array, jax.Array, jax.typing.ArrayLike],
) -> tuple[jax.Array, jax.Array]:
  inputs, bias, kept = primals
  d_bias = jnp.broadcast_to(_wide(tangents[1]), inputs.shape) * kept
  return add_bias(inputs, bias, kept), tangents[0] + d_bias.astype(inputs.dtype)


def _wide(values: jax.Array) -> jax.Array:
  """Returns the values in at least float32."""
  return values.astype(jnp.promote_types(values.dtype, jnp.float32))
