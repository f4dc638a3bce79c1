"""Average and max pooling as in the published networks."""

import jax
import numpy as np
from jax import lax

from nfnets.layers import ws_conv


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
  pad = ws_conv.explicit_padding(padding, 3)
  return lax.reduce_window(
    inputs,
    -np.inf,
    lax.max,
    (1, 3, 3, 1),
    (1, 2, 2, 1),
    pad if isinstance(pad, str) else ((0, 0), *pad, (0, 0)),
  )
