"""A common form for all RandAugment operations, and one function to apply it.

Every operation is an `Edit`: an affine warp, a lookup table, a gray box and a
blend with the gray or the blurred image. Each operation uses one of these and
leaves the others at their identity. A batch in which every image gets its own
operation is then one vectorized `apply`; under `jax.vmap`, a branch per
operation would compute all sixteen for every image and keep one.

Pixel values are levels, integers from 0 to 255. The arithmetic is Pillow's: it
uses integers wherever a result could otherwise depend on how a compiler rounds.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

FILL = 128  # level of pixels that a warp or a cutout leaves empty
_LEVELS = 256


class Edit(NamedTuple):
  """One change of an image uint8[H, W, 3]; `identity()` changes nothing."""

  # float32[6], (a, b, c, d, e, f): the output pixel at (x, y) shows the input
  # at (ax + by + c, dx + ey + f). Pixel i covers [i, i + 1); x points right.
  matrix: jax.Array
  table: jax.Array  # uint8[3, 256], the new level for each channel and level
  box: jax.Array  # int32[2, 2], [first, end) of the filled rows and columns
  factor: jax.Array  # float32[], for `blend` with the gray or blurred image
  blend_gray: jax.Array  # bool[], blend with the gray image, not the blurred


class ImageStats(NamedTuple):
  """The properties of an image that an operation may depend on."""

  height: int
  width: int
  histogram: jax.Array  # int32[3, 256], number of pixels at each level
  gray: jax.Array  # int32[], rounded mean of the gray image
  levels: jax.Array  # int32[3, ...], those that a table maps: all 256 of them


def identity() -> Edit:
  """Returns the edit that changes nothing."""
  return Edit(
    matrix=jnp.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
    table=jnp.tile(jnp.arange(_LEVELS, dtype=jnp.uint8), (3, 1)),
    box=jnp.zeros((2, 2), jnp.int32),
    factor=jnp.float32(1),
    blend_gray=jnp.bool_(False),
  )


def image_stats(
  image: jax.Array, with_histogram: jax.Array | bool = True
) -> ImageStats:
  """Computes the statistics that operations depend on.

  Args:
    image: uint8[H, W, 3].
    with_histogram: bool[], whether to compute the histogram. If False, it is
      all zeros, and the expensive scatter that fills it writes nothing.

  Returns:
    The statistics of the image.
  """
  bins = image.astype(jnp.int32) + _channel_offsets()
  # Indices out of range are dropped.
  bins = jnp.where(with_histogram, bins, 3 * _LEVELS)
  histogram = jnp.zeros(3 * _LEVELS, jnp.int32).at[bins].add(1, mode='drop')
  return empty_stats(image)._replace(
    histogram=histogram.reshape(3, _LEVELS), gray=mean_gray(image)
  )


def empty_stats(image: jax.Array) -> ImageStats:
  """Returns an image's statistics, as if its histogram and gray were 0."""
  height, width, _ = image.shape
  return ImageStats(
    height=height,
    width=width,
    histogram=jnp.zeros((3, _LEVELS), jnp.int32),
    gray=jnp.int32(0),
    levels=all_levels(),
  )


def all_levels() -> jax.Array:
  """Returns int32[3, 256], 0 to 255 for each channel."""
  return jnp.tile(jnp.arange(_LEVELS), (3, 1))


def mean_gray(image: jax.Array) -> jax.Array:
  """Returns int32[], the rounded mean of the gray image of uint8[H, W, 3]."""
  pixels = image.shape[0] * image.shape[1]
  return (gray(image).sum() + pixels // 2) // pixels


def apply(image: jax.Array, edit: Edit) -> jax.Array:
  """Applies an edit: warp, lookup table, box, then blend.

  Args:
    image: uint8[H, W, 3].
    edit: the change to make.

  Returns:
    uint8[H, W, 3].
  """

  def map_pixels(image: jax.Array) -> jax.Array:
    image = _look_up(_warp(image, edit.matrix), edit.table)
    return _fill(image, edit.box)

  def blend_image(image: jax.Array) -> jax.Array:
    degenerate = jnp.where(edit.blend_gray, gray(image), blur(image))
    return blend(degenerate, image, edit.factor)

  return _apply_unfused(map_pixels, blend_image, image)


def blend(
  degenerate: jax.Array, image: jax.Array, factor: jax.Array
) -> jax.Array:
  """Interpolates between a degenerate image and an image, or extrapolates.

  Args:
    degenerate: levels, of any shape that broadcasts to the image's.
    image: levels, of any shape and dtype.
    factor: float32[], 0 gives the degenerate image, 1 the image, more than 1
      moves the image away from the degenerate one.

  Returns:
    uint8, of the image's shape; fractions are truncated.
  """
  degenerate = degenerate.astype(jnp.float32)
  mixed = degenerate + factor * (image.astype(jnp.float32) - degenerate)
  return jnp.clip(mixed, 0, 255).astype(jnp.uint8)


def _apply_unfused(
  first: Callable[[jax.Array], jax.Array],
  second: Callable[[jax.Array], jax.Array],
  image: jax.Array,
) -> jax.Array:
  """Computes `second(first(image))` without letting XLA fuse the two.

  Fused, `first` would be recomputed for every neighbor that the blur in
  `second` reads, which is 5 times slower on a CPU. XLA does not fuse across the
  iterations of a loop, so each function gets an iteration.
  """
  return jax.lax.fori_loop(
    0,
    2,
    lambda turn, image: jax.lax.cond(turn == 0, first, second, image),
    image,
  )


def _warp(image: jax.Array, matrix: jax.Array) -> jax.Array:
  """Warps with the nearest neighbor."""
  height, width, channels = image.shape
  x, y = coordinates((height, width), matrix)
  inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
  source = jnp.where(inside, y * width + x, height * width)
  pixels = image.reshape(-1, channels)
  return pixels.at[source].get(mode='fill', fill_value=FILL)


def coordinates(
  shape: tuple[int, ...], matrix: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Computes which input pixel each output pixel of a warp shows.

  Args:
    shape: height and width of the image.
    matrix: float32[6], of an `Edit`.

  Returns:
    x and y, int32[H, W]; outside of the image, the output is filled.
  """
  height, width = shape
  a, b, c, d, e, f = to_fixed(matrix)
  row = jnp.arange(height)[:, None]
  column = jnp.arange(width)[None, :]
  return (c + a * column + b * row) >> 16, (f + d * column + e * row) >> 16


def to_fixed(matrix: jax.Array) -> tuple[jax.Array, ...]:
  """Converts the matrix of an `Edit` to 16.16 fixed point, as Pillow does.

  Args:
    matrix: float32[6], (a, b, c, d, e, f).

  Returns:
    Six int32[], where c and f are the input coordinates of the center of the
    output pixel (0, 0).
  """
  a, b, c, d, e, f = matrix
  centered = (a, b, c + (a + b) / 2, d, e, f + (d + e) / 2)
  return tuple(map(_fixed, centered))


def _fixed(x: jax.Array) -> jax.Array:
  """Rounds float32 to int32 in 16.16 fixed point."""
  return jnp.floor(x * (1 << 16) + 0.5).astype(jnp.int32)


def _look_up(image: jax.Array, table: jax.Array) -> jax.Array:
  bins = image.astype(jnp.int32) + _channel_offsets()
  return table.reshape(-1).at[bins].get(mode='promise_in_bounds')


def _channel_offsets() -> jax.Array:
  """Returns int32[1, 1, 3], the start of each channel in a flat table."""
  return _LEVELS * jnp.arange(3)[None, None, :]


def gray(image: jax.Array) -> jax.Array:
  """Returns int32[H, W, 1], ITU-R 601-2 luma in 16.16 fixed point, rounded."""
  weights = jnp.array([19595, 38470, 7471])[None, None, :]
  luma = (weights * image.astype(jnp.int32)).sum(axis=-1, keepdims=True)
  return (luma + (1 << 15)) >> 16


def blur(image: jax.Array) -> jax.Array:
  """Returns int32[H, W, 3], filtered by (1 1 1, 1 5 1, 1 1 1) / 13.

  Border pixels are unchanged.
  """
  height, width, _ = image.shape
  image = image.astype(jnp.int32)
  padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
  rows = padded[:-2] + padded[1:-1] + padded[2:]
  box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
  smooth = (box + 4 * image + 6) // 13
  interior = jnp.array([[1, height - 1], [1, width - 1]])
  return jnp.where(inside((height, width), interior)[..., None], smooth, image)


def _fill(image: jax.Array, box: jax.Array) -> jax.Array:
  filled = inside(image.shape[:2], box)[..., None]
  return jnp.where(filled, jnp.uint8(FILL), image)


def inside(shape: tuple[int, ...], box: jax.Array) -> jax.Array:
  """Returns bool[H, W], True within [first, end) of rows and columns."""
  height, width = shape
  row = jnp.arange(height)[:, None]
  column = jnp.arange(width)[None, :]
  (top, bottom), (left, right) = box
  return (row >= top) & (row < bottom) & (column >= left) & (column < right)
