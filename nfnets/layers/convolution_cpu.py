"""Convolutions as dense convolutions per group and as matrix products.

Each of the three products of a convolution (outputs, gradient of the inputs,
gradient of the kernel) is a function of the geometry and of the way to do it.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Part = Literal['forward', 'inputs', 'kernel']


class Geometry(NamedTuple):
  """What a convolution's operands do not tell.

  Attributes:
    stride: step in pixels along both axes.
    pads: ((top, bottom), (left, right)) pixels.
    groups: number of groups that channels are split into.
  """

  stride: int
  pads: tuple[tuple[int, int], ...]
  groups: int


# Groups narrower than this are merged, block-diagonally, up to this width:
# the zeros cost less than many narrow products.
_MERGED_WIDTH = 64
# Below this many output positions a matrix product of patches beats XLA's
# convolution.
_FEW_POSITIONS = 256
# From this many numbers per kernel position on, a kernel's gradient is a matrix
# product per position; below, such products are too narrow.
_WIDE = 64 * 128
_AXES = ('NHWC', 'HWIO', 'NHWC')


def plain(
  inputs: jax.Array, kernel: jax.Array, geometry: Geometry
) -> jax.Array:
  """XLA's own convolution."""
  return lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=(geometry.stride, geometry.stride),
    padding=geometry.pads,
    dimension_numbers=_AXES,
    feature_group_count=geometry.groups,
  )


# JAX writes the gradients of a convolution as convolutions with other orders of
# axes. XLA for CPUs brings them into the order that its fast code takes, but
# not inside a loop, such as that over micro-batches, where they then take a
# hundred times as long. Written out in that order they are fast everywhere.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _dense(
  geometry: Geometry, inputs: jax.Array, kernel: jax.Array
) -> jax.Array:
  return plain(inputs, kernel, geometry)


def _dense_forward(
  geometry: Geometry, inputs: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return plain(inputs, kernel, geometry), (inputs, kernel)


def _dense_backward(
  geometry: Geometry,
  residuals: tuple[jax.Array, jax.Array],
  cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  inputs, kernel = residuals
  sizes = _sizes(geometry, inputs, kernel, cotangent)
  d_inputs = lax.conv_general_dilated(
    cotangent,
    jnp.flip(kernel, (0, 1)).swapaxes(2, 3),
    window_strides=(1, 1),
    padding=[(k - 1 - p[0], n - 1 - span + p[0]) for n, k, p, span in sizes],
    lhs_dilation=(geometry.stride, geometry.stride),
    dimension_numbers=_AXES,
  )
  return d_inputs, _dense_kernel_gradient(geometry, inputs, kernel, cotangent)


_dense.defvjp(_dense_forward, _dense_backward)


def _dense_kernel_gradient(
  geometry: Geometry,
  inputs: jax.Array,
  kernel: jax.Array,
  cotangent: jax.Array,
) -> jax.Array:
  height, width, channels, outputs = kernel.shape
  if channels * outputs >= _WIDE:
    # Else XLA makes the taps early and keeps them all until they are needed.
    inputs, cotangent = lax.optimization_barrier((inputs, cotangent))
    rows = cotangent.reshape(-1, outputs)
    taps = _taps(inputs, (height, width), geometry)
    products = [
      lax.dot_general(tap.reshape(-1, channels), rows, (((0,), (0,)), ((), ())))
      for tap in taps
    ]
    return jnp.stack(products).reshape(kernel.shape)
  # The images are what is summed over: they stand where channels usually do.
  sizes = _sizes(geometry, inputs, kernel, cotangent)
  d_kernel = lax.conv_general_dilated(
    inputs.transpose(3, 1, 2, 0),
    cotangent.transpose(1, 2, 0, 3),
    window_strides=(1, 1),
    padding=[(p[0], k + span - n - p[0]) for n, k, p, span in sizes],
    rhs_dilation=(geometry.stride, geometry.stride),
    dimension_numbers=_AXES,
  )
  return d_kernel.transpose(1, 2, 0, 3)


def _sizes(
  geometry: Geometry, inputs: jax.Array, kernel: jax.Array, outputs: jax.Array
) -> Iterator[tuple[int, int, tuple[int, int], int]]:
  """Per axis: inputs, kernel, pads, and what the outputs span, less one."""
  spans = [(n - 1) * geometry.stride for n in outputs.shape[1:3]]
  return zip(
    inputs.shape[1:3], kernel.shape[:2], geometry.pads, spans, strict=True
  )


def _forward(
  geometry: Geometry, way: str, inputs: jax.Array, kernel: jax.Array
) -> jax.Array:
  if way == 'plain':
    return plain(inputs, kernel, geometry)
  if geometry.groups > 1:
    return _per_group(geometry, way, inputs, kernel)
  if kernel.shape[:2] == (1, 1) and not any(sum(geometry.pads, ())):
    return _pointwise(inputs, kernel, geometry.stride)
  if way == 'matmul' or (way == 'auto' and _is_small(inputs, geometry)):
    return _patches_matmul(inputs, kernel, geometry)
  return _dense(geometry, inputs, kernel)


def _inputs_gradient(
  geometry: Geometry,
  way: str,
  inputs: jax.Array,
  kernel: jax.Array,
  cotangent: jax.Array,
) -> jax.Array:
  _, transpose = jax.vjp(lambda x: _forward(geometry, way, x, kernel), inputs)
  return transpose(cotangent)[0]


def _kernel_gradient(
  geometry: Geometry,
  way: str,
  inputs: jax.Array,
  kernel: jax.Array,
  cotangent: jax.Array,
) -> jax.Array:
  _, transpose = jax.vjp(lambda w: _forward(geometry, way, inputs, w), kernel)
  return transpose(cotangent)[0]


PARTS: dict[Part, Callable[..., jax.Array]] = {
  'forward': _forward,
  'inputs': _inputs_gradient,
  'kernel': _kernel_gradient,
}


def _is_small(inputs: jax.Array, geometry: Geometry) -> bool:
  batch, height, width, _ = inputs.shape
  positions = batch * height * width // geometry.stride**2
  return positions <= _FEW_POSITIONS


def _pointwise(inputs: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """A 1x1 convolution: float[B, H', W', O], a stride skips positions."""
  if stride > 1:
    inputs = inputs[:, ::stride, ::stride]
  batch, height, width, channels = inputs.shape
  outputs = jnp.dot(inputs.reshape(-1, channels), kernel[0, 0])
  return outputs.reshape(batch, height, width, -1)


def _per_group(
  geometry: Geometry, way: str, inputs: jax.Array, kernel: jax.Array
) -> jax.Array:
  """One dense convolution per group, narrow groups merged first."""
  channels = kernel.shape[2]
  merge = max(1, min(geometry.groups, _MERGED_WIDTH // channels))
  # The last part takes the groups that are left: dividing evenly would leave
  # a prime number of narrow groups as they are.
  starts = range(merge, geometry.groups, merge)
  parts = jnp.split(inputs, [channels * start for start in starts], axis=-1)
  width = kernel.shape[3] // geometry.groups
  kernels = jnp.split(kernel, [width * start for start in starts], axis=-1)
  dense = geometry._replace(groups=1)
  return jnp.concatenate(
    [
      _forward(dense, way, x, _merged(w, x.shape[-1] // channels))
      for x, w in zip(parts, kernels, strict=True)
    ],
    axis=-1,
  )


def _merged(kernel: jax.Array, groups: int) -> jax.Array:
  """A grouped kernel as a dense one, block-diagonal in its channels."""
  if groups == 1:
    return kernel
  height, width, channels, outputs = kernel.shape
  blocks = jnp.einsum(
    'hwcmo,km->hwkcmo',
    kernel.reshape(height, width, channels, groups, outputs // groups),
    jnp.eye(groups, dtype=kernel.dtype),
  )
  return blocks.reshape(height, width, groups * channels, outputs)


def _patches_matmul(
  inputs: jax.Array, kernel: jax.Array, geometry: Geometry
) -> jax.Array:
  """A dense convolution as one product of patches and kernel (im2col)."""
  height, width, _, outputs = kernel.shape
  taps = _taps(inputs, (height, width), geometry)
  patches = jnp.concatenate(taps, axis=-1)
  products = jnp.dot(
    patches.reshape(-1, patches.shape[-1]), kernel.reshape(-1, outputs)
  )
  return products.reshape(*patches.shape[:3], outputs)


def _taps(
  inputs: jax.Array, size: tuple[int, int], geometry: Geometry
) -> list[jax.Array]:
  """What each of a kernel's positions meets: float[B, H', W', C] each."""
  height, width = size
  stride = geometry.stride
  padded = jnp.pad(inputs, ((0, 0), *geometry.pads, (0, 0)))
  batch, padded_height, padded_width, channels = padded.shape
  rows = (padded_height - height) // stride
  columns = (padded_width - width) // stride
  return [
    lax.slice(
      padded,
      (0, i, j, 0),
      (batch, i + rows * stride + 1, j + columns * stride + 1, channels),
      (1, stride, stride, 1),
    )
    for i in range(height)
    for j in range(width)
  ]
