"""Convolutions on CPUs: the lowering of each is chosen by its shape.

XLA's grouped convolutions, and their gradients most of all, are slow on CPUs.
Here they become dense convolutions per group, matrix products or Winograd's
convolutions. Used on CPUs, and elsewhere when a lowering is forced.

A convolution has three products: its outputs, the gradient of the inputs and
the gradient of the kernel. Each is a function of the geometry and of a way to
compute it: 'auto' (the fastest, by shape) or a `dispatch.Lowering`.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from nfnets.layers.convolution import dense, winograd
from nfnets.layers.convolution.geometry import Geometry

Part = Literal['forward', 'inputs', 'kernel']

# Groups with fewer channels than this are merged into one block-diagonal
# kernel of up to this width: its zeros cost less than many narrow products.
_MERGED_WIDTH = 64
# Up to this many output positions a matrix product of patches is faster than
# XLA's convolution.
_FEW_POSITIONS = 256


def _forward(
  geometry: Geometry, way: str, inputs: jax.Array, kernel: jax.Array
) -> jax.Array:
  if way == 'plain':
    return dense.plain(inputs, kernel, geometry)
  small = way == 'auto' and _is_small(inputs, geometry)
  if _by_winograd(geometry, way, inputs, kernel):
    return winograd.forward(geometry, inputs, kernel)
  if geometry.groups > 1:
    if small and dense.is_wide(kernel, geometry):
      return _patches_matmul(inputs, kernel, geometry)
    return _per_group(geometry, way, inputs, kernel)
  if kernel.shape[:2] == (1, 1) and not any(sum(geometry.pads, ())):
    return _pointwise(inputs, kernel, geometry.stride)
  if way == 'matmul' or small:
    return _patches_matmul(inputs, kernel, geometry)
  return dense.dense(geometry, inputs, kernel)


def _inputs_gradient(
  geometry: Geometry,
  way: str,
  inputs: jax.Array,
  kernel: jax.Array,
  cotangent: jax.Array,
) -> jax.Array:
  if _by_winograd(geometry, way, inputs, kernel):
    return winograd.inputs_gradient(geometry, kernel, cotangent)
  _, transpose = jax.vjp(lambda x: _forward(geometry, way, x, kernel), inputs)
  return transpose(cotangent)[0]


def _kernel_gradient(
  geometry: Geometry,
  way: str,
  inputs: jax.Array,
  kernel: jax.Array,
  cotangent: jax.Array,
) -> jax.Array:
  if _has_winograd(geometry, way, inputs, kernel):
    return winograd.kernel_gradient(geometry, inputs, cotangent)
  grouped = geometry.groups > 1 and dense.is_wide(kernel, geometry)
  if way == 'auto' and grouped and not _is_small(inputs, geometry):
    return dense.kernel_gradient(geometry, inputs, kernel, cotangent)
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


def _has_winograd(
  geometry: Geometry, way: str, inputs: jax.Array, kernel: jax.Array
) -> bool:
  return (
    way == 'auto'
    and not _is_small(inputs, geometry)
    and winograd.applies(inputs, kernel, geometry)
  )


def _by_winograd(
  geometry: Geometry, way: str, inputs: jax.Array, kernel: jax.Array
) -> bool:
  """Whether Winograd computes the outputs and the inputs' gradient too."""
  return _has_winograd(
    geometry, way, inputs, kernel
  ) and winograd.occupies_all_cores(inputs, kernel, geometry.groups)


def _pointwise(inputs: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Computes a 1x1 convolution, float[B, H', W', O]."""
  if stride > 1:
    inputs = inputs[:, ::stride, ::stride]
  batch, height, width, channels = inputs.shape
  outputs = jnp.dot(inputs.reshape(-1, channels), kernel[0, 0])
  return outputs.reshape(batch, height, width, -1)


def _per_group(
  geometry: Geometry, way: str, inputs: jax.Array, kernel: jax.Array
) -> jax.Array:
  """Computes one dense convolution per group, after merging narrow groups."""
  channels = kernel.shape[2]
  merge = max(1, min(geometry.groups, _MERGED_WIDTH // channels))
  # The last part has the remaining groups. Parts of equal size would leave a
  # prime number of narrow groups unmerged.
  starts = range(merge, geometry.groups, merge)
  parts = jnp.split(inputs, [channels * start for start in starts], axis=-1)
  width = kernel.shape[3] // geometry.groups
  kernels = jnp.split(kernel, [width * start for start in starts], axis=-1)
  single = geometry._replace(groups=1)
  return jnp.concatenate(
    [
      _forward(single, way, x, _merged(w, x.shape[-1] // channels))
      for x, w in zip(parts, kernels, strict=True)
    ],
    axis=-1,
  )


def _merged(kernel: jax.Array, groups: int) -> jax.Array:
  """Converts a grouped kernel to a dense one, block-diagonal in channels."""
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
  """Multiplies patches with kernels (im2col), all groups together."""
  height, width, channels, outputs = kernel.shape
  groups = geometry.groups
  batch, rows, columns, _ = inputs.shape
  # float[groups * B, H, W, C // groups]
  apart = jnp.moveaxis(
    inputs.reshape(batch, rows, columns, groups, channels), 3, 0
  ).reshape(-1, rows, columns, channels)
  taps = dense.taps(apart, (height, width), geometry)
  patches = jnp.concatenate(taps, axis=-1)
  _, rows, columns, taken = patches.shape
  kernels = kernel.reshape(taken, groups, -1).swapaxes(0, 1)
  products = patches.reshape(groups, -1, taken) @ kernels
  return products.swapaxes(0, 1).reshape(batch, rows, columns, outputs)
