"""Average and max pooling as in the published networks."""

import functools

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from nfnets import xla
from nfnets.layers import convolution, ws_conv


def average_pool(inputs: jax.Array) -> jax.Array:
  """Averages 2x2 windows at stride 2.

  At an odd height or width, the last row or column of windows averages only the
  pixels inside the image ('SAME' padding, which is not counted).

  Args:
    inputs: float[B, H, W, C].

  Returns:
    float[B, ceil(H / 2), ceil(W / 2), C].
  """
  window = (1, 2, 2, 1)
  total = lax.reduce_window(inputs, 0.0, lax.add, window, window, 'SAME')
  rows, columns = (
    np.minimum(2, size - np.arange(0, size, 2)) for size in inputs.shape[1:3]
  )
  count = np.outer(rows, columns)[None, :, :, None]
  return total / count.astype(inputs.dtype)


def max_pool(inputs: jax.Array, padding: ws_conv.PaddingRule) -> jax.Array:
  """Takes the maximum of 3x3 windows at stride 2.

  Args:
    inputs: float[B, H, W, C].
    padding: see `ws_conv.explicit_padding`.

  Returns:
    float[B, ceil(H / 2), ceil(W / 2), C].
  """
  return _max_pool(ws_conv.explicit_padding(padding, 3), inputs)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _max_pool(padding: convolution.Padding, inputs: jax.Array) -> jax.Array:
  pad = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
  return lax.reduce_window(
    inputs, -np.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pad
  )


@_max_pool.defjvp
def _max_pool_jvp(
  padding: convolution.Padding,
  primals: tuple[jax.Array],
  tangents: tuple[jax.Array],
) -> tuple[jax.Array, jax.Array]:
  """Keeps which of nine pixels is the first maximum of its window.

  The derivative that JAX would generate keeps the inputs and scatters: it moves
  six times as many bytes on GPUs, and takes twice as long on CPUs.
  """
  first, *others = _window_pixels(primals[0], padding, -np.inf)
  outputs, winner = first, jnp.zeros(first.shape, jnp.uint8)
  for i, pixels in enumerate(others, 1):
    winner = jnp.where(pixels > outputs, jnp.uint8(i), winner)
    outputs = jnp.maximum(outputs, pixels)
  # Otherwise XLA may search for the maxima again in the backward pass.
  winner = xla.materialize(winner)
  moved = _window_pixels(tangents[0], padding, 0.0)
  chosen = [jnp.where(winner == i, x, 0) for i, x in enumerate(moved)]
  return outputs, functools.reduce(jnp.add, chosen)


def _window_pixels(
  inputs: jax.Array, padding: convolution.Padding, value: float
) -> list[jax.Array]:
  """Returns each of the nine pixels of all windows, in the order of rows.

  Args:
    inputs: float[B, H, W, C].
    padding: see `convolution.conv2d`.
    value: fills the padding.

  Returns:
    Nine arrays float[B, H', W', C].
  """
  pads = padding
  if isinstance(padding, str):
    pads = lax.padtype_to_pads(inputs.shape[1:3], (3, 3), (2, 2), padding)
  padded = jnp.pad(inputs, ((0, 0), *pads, (0, 0)), constant_values=value)
  height, width = ((size - 3) // 2 * 2 + 1 for size in padded.shape[1:3])
  return [
    padded[:, i : i + height : 2, j : j + width : 2]
    for i in range(3)
    for j in range(3)
  ]
