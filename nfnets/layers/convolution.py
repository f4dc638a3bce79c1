"""The one place that decides how a (grouped) convolution is lowered."""

import contextlib
from collections.abc import Iterator
from typing import Literal, get_args

import jax
from jax import lax

Padding = str | tuple[tuple[int, int], tuple[int, int]]
Lowering = Literal['plain', 'grouped_dense', 'matmul']

# Part of the key of JAX's caches: a jitted function called under another
# lowering is traced again.
_forced = jax.make_user_context(default_value=None)


@contextlib.contextmanager
def lowering(name: Lowering) -> Iterator[None]:
  """Forces how `conv2d` is lowered, for experiments and for counting.

  Args:
    name: 'plain' (one XLA convolution each), 'grouped_dense' (one dense
      convolution per group) or 'matmul' (matrix products).

  Yields:
    Nothing; functions traced inside the context use that lowering.

  Raises:
    ValueError: if there is no lowering of that name.
  """
  if name not in get_args(Lowering):
    raise ValueError(f'lowering is {name!r}, expected one of {Lowering}')
  with _forced(name):
    yield


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
