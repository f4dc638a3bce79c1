"""Dense convolutions, in the forms that XLA runs fast on CPUs.

`cpu` uses them for every convolution in one group that is neither small, 1x1
nor done by Winograd, and for the kernel gradient of wide groups. `plain` is
XLA's own convolution, which other platforms use.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from nfnets import xla
from nfnets.layers.convolution.geometry import Geometry, Pads
from nfnets.runtime import cores

# XLA splits a convolution among cores in blocks of this many output channels
# and columns, not by rows or images.
_CHANNEL_BLOCK, _COLUMN_BLOCK = 64, 128
# With at least this many input and output channels, a product per row of the
# kernel is worth a transposition.
_WIDE = 64
_AXES = ('NHWC', 'HWIO', 'NHWC')


def plain(
  inputs: jax.Array, kernel: jax.Array, geometry: Geometry
) -> jax.Array:
  """Computes XLA's own convolution, float[B, H', W', O].

  Args:
    inputs: float[B, H, W, C].
    kernel: float[kh, kw, C // groups, O].
    geometry: the convolution's stride, pads and groups.
  """
  return lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=(geometry.stride, geometry.stride),
    padding=geometry.pads,
    dimension_numbers=_AXES,
    feature_group_count=geometry.groups,
  )


def _convolve(inputs: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
  """Computes a convolution of stride 1 that keeps all cores busy."""
  positions = math.prod(inputs.shape[:3])
  by_channels = -(-kernel.shape[-1] // _CHANNEL_BLOCK)
  by_columns = min(cores.available(), positions // _COLUMN_BLOCK)
  if by_channels < by_columns:
    return _in_one_line(inputs, kernel, pads)
  return plain(inputs, kernel, Geometry(1, pads, 1))


def _in_one_line(inputs: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
  """Computes a convolution of stride 1 with all rows of all images in one line.

  Neighboring rows and images share the padding between them, which must be
  smaller than the kernel. The line is stacked once per row of the kernel, each
  copy shifted by one more row of the image: the rows that the kernel covers are
  then above one another, and the stack is convolved as one image without pads.
  """
  batch, height, width, channels = inputs.shape
  rows, columns = kernel.shape[:2]
  (top, bottom), (left, right) = pads
  padded = jnp.pad(
    inputs,
    ((0, 0), (0, max(top, bottom)), (0, max(left, right)), (0, 0)),
  )
  tall, wide = padded.shape[1:3]
  length = batch * tall * wide
  before, after = top * wide + left, (rows - 1) * wide + columns - 1
  line = jnp.pad(padded.reshape(-1, channels), ((before, after), (0, 0)))
  lines = jnp.stack(
    [line[i * wide :][: length + columns - 1] for i in range(rows)]
  )
  outputs = plain(lines[None], kernel, Geometry(1, ((0, 0), (0, 0)), 1))
  return outputs.reshape(batch, tall, wide, -1)[
    :,
    : height + top + bottom - rows + 1,
    : width + left + right - columns + 1,
  ]


def dense(
  geometry: Geometry, inputs: jax.Array, kernel: jax.Array
) -> jax.Array:
  """Computes a convolution in one group, float[B, H', W', O].

  Args:
    geometry: the convolution's stride and pads; one group.
    inputs: float[B, H, W, C].
    kernel: float[kh, kw, C, O].
  """
  reach = zip(geometry.pads, kernel.shape[:2], strict=True)
  if not all(0 <= side < size for pad, size in reach for side in pad):
    # Otherwise the gradient of the inputs is a convolution with negative pads,
    # for which XLA on CPUs (jaxlib 0.10) reads beyond the ends of its arrays.
    inputs = lax.pad(
      inputs,
      jnp.zeros((), inputs.dtype),
      ((0, 0, 0), *((*pad, 0) for pad in geometry.pads), (0, 0, 0)),
    )
    geometry = geometry._replace(pads=((0, 0), (0, 0)))
  return _dense(geometry, inputs, kernel)


# JAX expresses the gradients of a convolution as convolutions with other orders
# of axes. XLA on CPUs reorders the axes for its fast code, except inside a loop
# (such as that over micro-batches), where the gradients then take a hundred
# times as long. Written in the fast order they are fast everywhere.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _dense(
  geometry: Geometry, inputs: jax.Array, kernel: jax.Array
) -> jax.Array:
  if geometry.stride == 1:
    return _convolve(inputs, kernel, geometry.pads)
  return plain(inputs, kernel, geometry)


def _dense_forward(
  geometry: Geometry, inputs: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return _dense(geometry, inputs, kernel), (inputs, kernel)


def _dense_backward(
  geometry: Geometry,
  residuals: tuple[jax.Array, jax.Array],
  cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  inputs, kernel = residuals
  d_inputs = _dense_inputs_gradient(geometry, inputs, kernel, cotangent)
  return d_inputs, kernel_gradient(geometry, inputs, kernel, cotangent)


_dense.defvjp(_dense_forward, _dense_backward)


def _dense_inputs_gradient(
  geometry: Geometry,
  inputs: jax.Array,
  kernel: jax.Array,
  cotangent: jax.Array,
) -> jax.Array:
  """Convolves the cotangent with the kernel rotated by 180 degrees."""
  spans = [(n - 1) * geometry.stride for n in cotangent.shape[1:3]]
  sizes = zip(
    inputs.shape[1:3], kernel.shape[:2], geometry.pads, spans, strict=True
  )
  pads = tuple((k - 1 - p[0], n - 1 - span + p[0]) for n, k, p, span in sizes)
  rotated = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
  if geometry.stride == 1:
    return _convolve(cotangent, rotated, pads)
  return lax.conv_general_dilated(
    cotangent,
    rotated,
    window_strides=(1, 1),
    padding=pads,
    lhs_dilation=(geometry.stride, geometry.stride),
    dimension_numbers=_AXES,
  )


def is_wide(kernel: jax.Array, geometry: Geometry) -> bool:
  """Returns whether each group has many input and output channels."""
  *_, channels, outputs = kernel.shape
  return min(channels, outputs // geometry.groups) >= _WIDE


def kernel_gradient(
  geometry: Geometry,
  inputs: jax.Array,
  kernel: jax.Array,
  cotangent: jax.Array,
) -> jax.Array:
  """Computes the gradient of the kernel, float[kh, kw, C // groups, O].

  Args:
    geometry: the convolution's stride, pads and groups; more than one group
      only if they are wide (see `is_wide`).
    inputs: float[B, H, W, C].
    kernel: float[kh, kw, C // groups, O].
    cotangent: float[B, H', W', O].
  """
  # Otherwise XLA computes the taps before the cotangent is known, and keeps
  # them all until then.
  inputs, cotangent = xla.materialize((inputs, cotangent))
  each = taps(inputs, kernel.shape[:2], geometry)
  width = kernel.shape[1]
  rows = [each[i : i + width] for i in range(0, len(each), width)]
  if is_wide(kernel, geometry):
    return _wide_kernel_gradient(rows, kernel, cotangent, geometry.groups)
  return _narrow_kernel_gradient(rows, kernel, cotangent)


def _narrow_kernel_gradient(
  rows: list[list[jax.Array]], kernel: jax.Array, cotangent: jax.Array
) -> jax.Array:
  """Computes one matrix product per row of the kernel.

  A product for the whole kernel would need memory for more patches; a product
  per position would be too narrow.
  """
  errors = cotangent.reshape(-1, cotangent.shape[-1])
  products = [
    lax.dot_general(_side_by_side(row), errors, (((0,), (0,)), ((), ())))
    for row in rows
  ]
  return jnp.concatenate(products).reshape(kernel.shape)


def _side_by_side(row: list[jax.Array]) -> jax.Array:
  """Concatenates the taps of a row: float[B * H' * W', kw * C]."""
  patches = jnp.concatenate(row, axis=-1)
  return patches.reshape(-1, patches.shape[-1])


def _wide_kernel_gradient(
  rows: list[list[jax.Array]],
  kernel: jax.Array,
  cotangent: jax.Array,
  groups: int,
) -> jax.Array:
  """Computes one matrix product per row of the kernel and group.

  Both factors are in the order that XLA's fastest code takes.
  """
  height, width, channels, outputs = kernel.shape
  # float[groups, outputs, positions]
  errors = cotangent.reshape(-1, groups, outputs // groups).transpose(1, 2, 0)
  # Otherwise XLA transposes the cotangent again for every row.
  errors = xla.materialize(errors)

  def product(row: list[jax.Array]) -> jax.Array:
    patches = jnp.stack([tap.reshape(-1, groups, channels) for tap in row], 1)
    patches = patches.transpose(2, 0, 1, 3)
    return errors @ patches.reshape(groups, -1, width * channels)

  products = jnp.stack([product(row) for row in rows], axis=2)
  return products.reshape(outputs, height, width, channels).transpose(
    1, 2, 3, 0
  )


def taps(
  inputs: jax.Array, size: tuple[int, int], geometry: Geometry
) -> list[jax.Array]:
  """Returns the inputs that each position of a kernel is multiplied with.

  Args:
    inputs: float[B, H, W, C].
    size: height and width of the kernel in pixels.
    geometry: the convolution's stride and pads.

  Returns:
    One float[B, H', W', C] per position, row by row.
  """
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
