"""The one place that decides how a (grouped) convolution is lowered."""

import jax
from jax import lax

Padding = str | tuple[tuple[int, int], tuple[int, int]]


def conv2d(
    inputs: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    padding: Padding = 'SAME',
    groups: int = 1,
) -> jax.Array:
  """Two-dimensional (grouped) cross-correlation, NHWC by HWIO.

  Args:
    inputs: float[B, H, W, C].
    kernel: float[kh, kw, C // groups, O], same dtype as the inputs.
    stride: step in pixels along both axes.
    padding: 'SAME' (as TensorFlow pads: the odd pixel at the end), 'VALID' or
      explicit ((top, bottom), (left, right)) pixels.
    groups: number of groups that channels are split into.

  Returns:
    float[B, H', W', O].
  """
  return lax.conv_general_dilated(
      inputs,
      kernel,
      window_strides=(stride, stride),
      padding=padding,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=groups,
  )
