"""RandAugment for TPUs: one image after another, without gathers.

TPUs are slow at gathers and scatters: moving, mapping and counting pixels by
index costs more than training the network. Here products with one-hot matrices
do it, on the matrix unit. They are exact: a level fits the 8 bits of the unit's
bfloat16, and each sum has at most one nonzero term, or counts ones. The images
of a batch take turns, and each takes only the branch of its own operation. With
`jax.vmap` over images, each would compute all branches.

Images are planes, int32[3, H, W]: a TPU computes on tiles of 8 x 128 numbers of
the last two axes, which three channels would leave almost empty.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nfnets import xla
from nfnets.augment import edits, ops

_USE_STATS = ('autocontrast', 'equalize', 'contrast')
_LEVELS = 256
_FINE = 8  # a level is the sum of _FINE * coarse and fine


class Draw(NamedTuple):
  """What an image draws for one layer; see `edits.Edit`."""

  choice: jax.Array  # int32[], index of the operation
  matrix: jax.Array  # float32[6]
  box: jax.Array  # int32[2, 2]


# (planes, draw) -> planes
Change = Callable[[jax.Array, Draw], jax.Array]


def apply(
  image: jax.Array,
  draws: Draw,
  operations: dict[str, ops.Operation],
  magnitude: float,
) -> jax.Array:
  """Applies the drawn operations; under `jax.vmap`, in a loop over images.

  Args:
    image: uint8[H, W, 3].
    draws: the draws of all layers, stacked.
    operations: operations by name, in the order that `Draw.choice` indexes.
    magnitude: magnitude of every operation.

  Returns:
    uint8[H, W, 3].
  """
  changes = [change(*item, magnitude) for item in operations.items()]

  def layer(planes: jax.Array, draw: Draw) -> tuple[jax.Array, None]:
    planes = jax.lax.switch(draw.choice, changes, planes, draw)
    # Otherwise all operations read the layout that suits one of them.
    return xla.row_major(planes), None

  @jax.custom_batching.sequential_vmap
  @jax.jit  # traced once, not again in each loop
  def apply_layers(planes: jax.Array, draws: Draw) -> jax.Array:
    return jax.lax.scan(layer, planes, draws)[0]

  return to_image(apply_layers(to_planes(image), draws))


def change(name: str, operation: ops.Operation, magnitude: float) -> Change:
  """Returns one operation on planes.

  Args:
    name: name of the operation.
    operation: its definition; see `ops`.
    magnitude: its magnitude.

  Returns:
    (planes, draw) -> planes.
  """

  def edit(planes: jax.Array, **changes: jax.Array) -> edits.Edit:
    stats = edits.empty_stats(planes.transpose(1, 2, 0))._replace(**changes)
    if name in _USE_STATS:
      stats = _with_stats(planes, stats)
    # No operation that gets here draws from the key.
    return operation(jax.random.key(0), stats, magnitude)

  def blend_with(
    degenerate: Callable[[jax.Array], jax.Array],
  ) -> Change:
    return lambda planes, draw: _blend(degenerate, planes, edit(planes).factor)

  changes: dict[str, Change] = {
    'rotate': lambda planes, draw: _rotate(planes, draw, magnitude),
    'shear_x': _move_along_rows,
    'shear_y': _move_along_columns,
    'translate_x': _translate,
    'translate_y': _translate,
    'cutout': _fill_box,
    'color': blend_with(edits.gray),
    'sharpness': blend_with(edits.blur),
    'equalize': lambda planes, draw: look_up(planes, edit(planes).table),
  }
  # The others are functions of the level, computed for each pixel.
  return changes.get(
    name,
    lambda planes, draw: edit(planes, levels=planes).table.astype(jnp.int32),
  )


def to_planes(image: jax.Array) -> jax.Array:
  """Converts uint8[H, W, 3] to int32[3, H, W]."""
  return image.transpose(2, 0, 1).astype(jnp.int32)


def to_image(planes: jax.Array) -> jax.Array:
  """Converts int32[3, H, W] to uint8[H, W, 3]."""
  return planes.transpose(1, 2, 0).astype(jnp.uint8)


def count_levels(planes: jax.Array) -> jax.Array:
  """Returns the histogram of each channel, int32[3, 256]."""
  coarse, fine = _split(planes)
  counts = _product('cgp,cfp->cgf', coarse, fine)
  return counts.astype(jnp.int32).reshape(3, _LEVELS)


def look_up(planes: jax.Array, table: jax.Array) -> jax.Array:
  """Maps each channel's levels by its row of a table, uint8[3, 256]."""
  coarse, fine = _split(planes)
  rows = _product('cgf,cgp->cfp', table.reshape(3, -1, _FINE), coarse)
  levels = jnp.where(fine, rows, 0).sum(axis=1)
  return levels.astype(jnp.int32).reshape(planes.shape)


def _split(planes: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the coarse and the fine part of the levels, one-hot."""
  levels = planes.reshape(3, -1)
  coarse, fine = levels // _FINE, levels % _FINE
  return _one_hot(coarse, _LEVELS // _FINE), _one_hot(fine, _FINE)


def _one_hot(index: jax.Array, count: int) -> jax.Array:
  """Returns bool[..., count, N] for int32[..., N]; out of range, all False."""
  return jax.nn.one_hot(index, count, dtype=jnp.bool_, axis=-2)


def _product(equation: str, first: jax.Array, second: jax.Array) -> jax.Array:
  """Computes `einsum` of small integers, in one pass of the matrix unit."""
  return jnp.einsum(
    equation,
    first.astype(jnp.float32),
    second.astype(jnp.float32),
    precision=jax.lax.Precision.DEFAULT,
  )


def _with_stats(planes: jax.Array, stats: edits.ImageStats) -> edits.ImageStats:
  return stats._replace(
    histogram=count_levels(planes),
    gray=edits.mean_gray(planes.transpose(1, 2, 0)),
  )


def _blend(
  degenerate: Callable[[jax.Array], jax.Array],
  planes: jax.Array,
  factor: jax.Array,
) -> jax.Array:
  image = planes.transpose(1, 2, 0)
  return to_planes(edits.blend(degenerate(image), image, factor))


def _fill_box(planes: jax.Array, draw: Draw) -> jax.Array:
  inside = edits.inside(planes.shape[1:], draw.box)
  return jnp.where(inside[None], edits.FILL, planes)


def _move_along_rows(planes: jax.Array, draw: Draw) -> jax.Array:
  x, _ = edits.coordinates(planes.shape[1:], draw.matrix)
  return _fill_outside(_take(planes, x), draw.matrix)


def _move_along_columns(planes: jax.Array, draw: Draw) -> jax.Array:
  _, y = edits.coordinates(planes.shape[1:], draw.matrix)
  return _fill_outside(_take(planes.mT, y.T).mT, draw.matrix)


def _translate(planes: jax.Array, draw: Draw) -> jax.Array:
  _, height, width = planes.shape
  x, y = edits.coordinates((1, 1), draw.matrix)
  padding = ((0, 0), (height, height), (width, width))
  padded = jnp.pad(planes, padding, constant_values=edits.FILL)
  top = jnp.clip(y[0, 0], -height, height) + height
  left = jnp.clip(x[0, 0], -width, width) + width
  return jax.lax.dynamic_slice(padded, (0, top, left), planes.shape)


def _take(planes: jax.Array, x: jax.Array) -> jax.Array:
  """Returns `planes[c, y, x[y, k]]` for each c, y and k; 0 outside."""
  return _product('cyx,yxk->cyk', planes, _one_hot(x, planes.shape[2]))


def _fill_outside(moved: jax.Array, matrix: jax.Array) -> jax.Array:
  """Fills the pixels that come from outside of the image; returns int32."""
  height, width = shape = moved.shape[1:]
  x, y = edits.coordinates(shape, matrix)
  inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
  return jnp.where(inside[None], moved.astype(jnp.int32), edits.FILL)


def _rotate(planes: jax.Array, draw: Draw, magnitude: float) -> jax.Array:
  """Rotates in two passes: along the rows, then along the columns.

  The first pass moves each pixel to its output column, within its row. Pixels
  of one output column may show several pixels of that row, but at most one of
  each half of the row: their distance in the input is at least cos 45 degrees
  of a pixel. Hence two such pairs of passes, one for each half.

  Args:
    planes: int32[3, H, W].
    draw: its matrix is a rotation.
    magnitude: RandAugment's. At angles nearer to 90 or 270 degrees than to 0 or
      180, the rows of the passes are the columns of the input.

  Returns:
    int32[3, H, W], equal to the result of `edits.apply`.

  References:
    Catmull and Smith, `3-D transformations of images in scanline order`, 1980.
  """
  _, height, width = planes.shape
  source, (a, b, c, d, e, f) = planes, edits.to_fixed(draw.matrix)
  angle = math.radians(3 * magnitude)
  if abs(math.sin(angle)) > abs(math.cos(angle)):
    source, (a, b, c, d, e, f) = planes.mT, (d, e, f, a, b, c)
  column = jnp.arange(width)[None, :]
  y_start = f + d * column
  # The half row of the input that each output pixel shows.
  half_row = (y_start + e * jnp.arange(height)[:, None]) >> 15
  moved = jnp.zeros((3, height, width))
  for half in range(2):
    # The output row, if any, that shows a pixel of the half row.
    center = (4 * jnp.arange(source.shape[1])[:, None] + 2 * half + 1) << 14
    row = jnp.round((center - y_start) / e).astype(jnp.int32)
    # A layout that suits the second product would make the first slow.
    between = xla.materialize(_take(source, (c + a * column + b * row) >> 16))
    y = jnp.where(half_row % 2 == half, half_row // 2, -1)
    moved += _take(between.mT, y.T).mT
  return _fill_outside(moved, draw.matrix)
