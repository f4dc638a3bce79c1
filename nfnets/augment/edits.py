"""What a RandAugment operation changes, and the one way to change it.

Every operation is an `Edit`: a warp, a table of levels, a gray box and a blend
with the gray or the blurred image, of which all but one leave the image as it
is. A batch in which each image has an operation of its own is therefore one
pass of `apply`; to run sixteen branches for each image and keep one would cost
many times as much.

Levels are integers from 0 to 255, and the arithmetic is Pillow's: integers
wherever the result may not depend on how a compiler rounds.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

FILL = 128  # level of the pixels that an operation has no image for
_LEVELS = 256


class Edit(NamedTuple):
  """One change of an image uint8[H, W, 3]; see `identity`."""

  # float32[6], (a, b, c, d, e, f): the pixel at (x, y) shows what was at
  # (ax + by + c, dx + ey + f). Pixel i covers [i, i + 1), x goes right.
  matrix: jax.Array
  table: jax.Array  # uint8[3, 256], the new level of each channel's levels
  box: jax.Array  # int32[2, 2], [first, end) of the rows, of the columns
  factor: jax.Array  # float32[], of `blend` with the gray or blurred image
  blend_gray: jax.Array  # bool[], with the gray image, else the blurred one


class Measured(NamedTuple):
  """What an operation may need to know of an image."""

  height: int
  width: int
  histogram: jax.Array  # int32[3, 256], pixels of each level
  gray: jax.Array  # int32[], mean of the gray image, rounded


def identity() -> Edit:
  """The edit that changes nothing."""
  return Edit(
    matrix=jnp.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
    table=jnp.tile(jnp.arange(_LEVELS, dtype=jnp.uint8), (3, 1)),
    box=jnp.zeros((2, 2), jnp.int32),
    factor=jnp.float32(1),
    blend_gray=jnp.bool_(False),
  )


def measure(
  image: jax.Array, with_histogram: jax.Array | bool = True
) -> Measured:
  """Measures an image.

  Args:
    image: uint8[H, W, 3].
    with_histogram: bool[], whether the histogram is wanted. Where it is not,
      it is all zeros, and its one costly part, the scatter, writes nothing.

  Returns:
    The measurements.
  """
  height, width, _ = image.shape
  bins = image.astype(jnp.int32) + _channel_offsets()
  bins = jnp.where(with_histogram, bins, 3 * _LEVELS)
  histogram = jnp.zeros(3 * _LEVELS, jnp.int32).at[bins].add(1, mode='drop')
  pixels = height * width
  return Measured(
    height=height,
    width=width,
    histogram=histogram.reshape(3, _LEVELS),
    gray=(_gray(image).sum() + pixels // 2) // pixels,
  )


def apply(image: jax.Array, edit: Edit) -> jax.Array:
  """uint8[H, W, 3] -> uint8[H, W, 3], edited."""

  def map_pixels(image: jax.Array) -> jax.Array:
    image = _look_up(_warp(image, edit.matrix), edit.table)
    return _fill(image, edit.box)

  def blend_image(image: jax.Array) -> jax.Array:
    degenerate = jnp.where(edit.blend_gray, _gray(image), _blur(image))
    return blend(degenerate, image, edit.factor)

  # XLA would fuse the two, so that each pixel of the one repeats the other's
  # work (5 times slower on a CPU); what a loop carries, it does not fuse.
  return jax.lax.fori_loop(
    0,
    2,
    lambda turn, image: jax.lax.cond(turn == 0, map_pixels, blend_image, image),
    image,
  )


def blend(
  degenerate: jax.Array, image: jax.Array, factor: jax.Array
) -> jax.Array:
  """Moves an image away from (factor > 1) or towards a degenerate one.

  Args:
    degenerate: levels, of a shape that broadcasts to the image's.
    image: levels, of any shape and type.
    factor: float32[], 0 gives the degenerate image, 1 the image.

  Returns:
    uint8, of the image's shape; fractions are cut off.
  """
  degenerate = degenerate.astype(jnp.float32)
  mixed = degenerate + factor * (image.astype(jnp.float32) - degenerate)
  return jnp.clip(mixed, 0, 255).astype(jnp.uint8)


def _warp(image: jax.Array, matrix: jax.Array) -> jax.Array:
  """Nearest-neighbour affine warp in 16.16 fixed point, as Pillow's."""
  height, width, channels = image.shape
  a, b, c, d, e, f = matrix
  row = jnp.arange(height)[:, None]
  column = jnp.arange(width)[None, :]
  # c and f are taken to where pixel (0, 0) has its center.
  x_origin, y_origin = c + (a + b) / 2, f + (d + e) / 2
  x = (_fixed(x_origin) + _fixed(a) * column + _fixed(b) * row) >> 16
  y = (_fixed(y_origin) + _fixed(d) * column + _fixed(e) * row) >> 16
  inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
  source = jnp.where(inside, y * width + x, height * width)
  pixels = image.reshape(-1, channels)
  return pixels.at[source].get(mode='fill', fill_value=FILL)


def _fixed(x: jax.Array) -> jax.Array:
  return jnp.floor(x * (1 << 16) + 0.5).astype(jnp.int32)


def _look_up(image: jax.Array, table: jax.Array) -> jax.Array:
  bins = image.astype(jnp.int32) + _channel_offsets()
  return table.reshape(-1).at[bins].get(mode='promise_in_bounds')


def _channel_offsets() -> jax.Array:
  """int32[1, 1, 3]: where each channel's levels start in a flat table."""
  return _LEVELS * jnp.arange(3)[None, None, :]


def _gray(image: jax.Array) -> jax.Array:
  """int32[H, W, 1]: luma of ITU-R 601-2 in 16.16 fixed point, rounded."""
  weights = jnp.array([19595, 38470, 7471])[None, None, :]
  luma = (weights * image.astype(jnp.int32)).sum(axis=-1, keepdims=True)
  return (luma + (1 << 15)) >> 16


def _blur(image: jax.Array) -> jax.Array:
  """int32[H, W, 3]: (1 1 1, 1 5 1, 1 1 1) / 13, the border as it is."""
  height, width, _ = image.shape
  image = image.astype(jnp.int32)
  padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
  rows = padded[:-2] + padded[1:-1] + padded[2:]
  box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
  smooth = (box + 4 * image + 6) // 13
  inside = _inside(image, jnp.array([[1, height - 1], [1, width - 1]]))
  return jnp.where(inside, smooth, image)


def _fill(image: jax.Array, box: jax.Array) -> jax.Array:
  return jnp.where(_inside(image, box), jnp.uint8(FILL), image)


def _inside(image: jax.Array, box: jax.Array) -> jax.Array:
  """bool[H, W, 1]: the pixels within [first, end) of the rows and columns."""
  height, width, _ = image.shape
  row = jnp.arange(height)[:, None, None]
  column = jnp.arange(width)[None, :, None]
  (top, bottom), (left, right) = box
  return (row >= top) & (row < bottom) & (column >= left) & (column < right)
