"""The sixteen operations of RandAugment, as Pillow defines them.

Each is `op(key, image, level)`, uint8[H, W, 3] -> uint8[H, W, 3]. `level` is
RandAugment's magnitude, 0 or above: 10 is the top of the published scale, the
larger NFNets use 15. `key` draws the sign of a geometric operation and the
place of the cutout; the other operations do not read it.

Two operations depart from their definition in the published NFNet code;
`reference_quirks=True` reproduces that:

* Solarize compares bytes, so its threshold wraps: 256 (level 10, which changes
  nothing) becomes 0 (every pixel inverted), 384 (level 15) becomes 128.
* Contrast's mean is the number of pixels / 256, at most 255, whatever the
  image: 144 at 192 pixels, white from 256 pixels up.

References:
  Cubuk et al., RandAugment, arXiv:1909.13719, section 3. The ranges are those
  of the published NFNet code, which differ from the paper's.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from nfnets.augment import edits

Array: TypeAlias = jax.Array
Edit: TypeAlias = edits.Edit
Measured: TypeAlias = edits.Measured

# (key, measurements of the image, level) -> what the operation changes
EditFn = Callable[[Array, Measured, ArrayLike], Edit]


class Operation(Protocol):
  """One operation on one image."""

  def __call__(
    self,
    key: Array,
    image: Array,
    level: ArrayLike,
    *,
    reference_quirks: bool = False,
  ) -> Array:
    """uint8[H, W, 3] -> uint8[H, W, 3]."""


OPERATIONS: dict[str, Operation] = {}
_EDITS: dict[str, EditFn] = {}


def edit_fns(*, reference_quirks: bool) -> dict[str, EditFn]:
  """The edit of each operation by the operation's name, in published order."""
  return _EDITS | _REFERENCE_EDITS if reference_quirks else _EDITS


def _operation(edit: EditFn) -> Operation:
  """Makes the operation of the function that says what it changes."""
  name = edit.__name__

  def operation(
    key: Array,
    image: Array,
    level: ArrayLike,
    *,
    reference_quirks: bool = False,
  ) -> Array:
    edit_fn = edit_fns(reference_quirks=reference_quirks)[name]
    return edits.apply(image, edit_fn(key, edits.measure(image), level))

  operation.__name__ = operation.__qualname__ = name
  operation.__doc__ = edit.__doc__
  _EDITS[name] = edit
  OPERATIONS[name] = operation
  return operation


@_operation
def autocontrast(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Stretches each channel to levels 0 to 255."""
  del key, level
  levels = jnp.arange(256)[None, :]
  seen = image.histogram > 0
  low = jnp.argmax(seen, axis=1, keepdims=True)
  high = 255 - jnp.argmax(seen[:, ::-1], axis=1, keepdims=True)
  stretched = (levels - low) * 255 // jnp.maximum(high - low, 1)
  return _table(jnp.where(high > low, stretched, levels))


@_operation
def equalize(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Makes each channel's histogram as flat as a map of levels can."""
  del key, level
  histogram = image.histogram
  levels = jnp.arange(256)[None, :]
  highest = jnp.max(jnp.where(histogram > 0, levels, 0), axis=1, keepdims=True)
  # Of the highest level only the place counts, not the number of pixels.
  of_highest = jnp.take_along_axis(histogram, highest, axis=1)
  step = (histogram.sum(axis=1, keepdims=True) - of_highest) // 255
  below = jnp.cumsum(histogram, axis=1) - histogram
  equalized = (step // 2 + below) // jnp.maximum(step, 1)
  return _table(jnp.where(step > 0, equalized, levels))


@_operation
def invert(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Turns level x into 255 - x."""
  del key, image, level
  return _table(255 - jnp.arange(256))


@_operation
def rotate(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Rotates by +-3 level degrees about the center, filled with 128."""
  radians = jnp.deg2rad(_scaled(level, 30))
  cosine, sine = jnp.cos(radians), _sign(key) * jnp.sin(radians)
  x, y = image.width / 2, image.height / 2
  return _matrix(
    *(cosine, -sine, x - cosine * x + sine * y),
    *(sine, cosine, y - sine * x - cosine * y),
  )


@_operation
def posterize(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Keeps the int(0.4 level) highest bits: the higher the level, the weaker.

  At least one bit is kept, where the formula keeps none below level 2.5.
  """
  del key, image
  bits = jnp.clip(_scaled_int(level, 4), 1, 8)
  return _table(jnp.arange(256) & (0xFF00 >> bits))


@_operation
def solarize(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Inverts the levels from int(25.6 level) up: none from level 10 on."""
  del key, image
  return _solarized(_scaled_int(level, 256))


def _reference_solarize(key: Array, image: Measured, level: ArrayLike) -> Edit:
  del key, image
  return _solarized(_scaled_int(level, 256) % 256)


@_operation
def color(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Blends with the gray image, by 0.18 level + 0.1."""
  del key, image
  return _blend(level, blend_gray=True)


@_operation
def contrast(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Blends with the gray image's mean, by 0.18 level + 0.1."""
  del key
  return _table(edits.blend(image.gray, jnp.arange(256), _factor(level)))


def _reference_contrast(key: Array, image: Measured, level: ArrayLike) -> Edit:
  del key
  mean = jnp.int32(min(image.height * image.width // 256, 255))
  return _table(edits.blend(mean, jnp.arange(256), _factor(level)))


@_operation
def brightness(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Blends with black, by 0.18 level + 0.1."""
  del key, image
  return _table(edits.blend(jnp.int32(0), jnp.arange(256), _factor(level)))


@_operation
def sharpness(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Blends with the smoothed image, by 0.18 level + 0.1."""
  del key, image
  return _blend(level, blend_gray=False)


@_operation
def shear_x(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Shifts row y by +-0.03 level y pixels, filled with 128."""
  del image
  return _matrix(1, _sign(key) * _scaled(level, 0.3), 0, 0, 1, 0)


@_operation
def shear_y(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Shifts column x by +-0.03 level x pixels, filled with 128."""
  del image
  return _matrix(1, 0, 0, _sign(key) * _scaled(level, 0.3), 1, 0)


@_operation
def translate_x(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Shifts by +-10 level pixels along a row, whatever the image's size."""
  del image
  return _matrix(1, 0, _sign(key) * _scaled(level, 100), 0, 1, 0)


@_operation
def translate_y(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Shifts by +-10 level pixels along a column, whatever the image's size."""
  del image
  return _matrix(1, 0, 0, 0, 1, _sign(key) * _scaled(level, 100))


@_operation
def cutout(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Fills a square with 128: sides of 2 int(4 level), the center anywhere."""
  shape = jnp.array([image.height, image.width])
  center = jax.random.randint(key, (2,), 0, shape)
  half = _scaled_int(level, 40)
  box = jnp.stack([center - half, center + half], axis=1)
  return edits.identity()._replace(box=box)


@_operation
def solarize_add(key: Array, image: Measured, level: ArrayLike) -> Edit:
  """Adds int(11 level) to the levels below 128."""
  del key, image
  levels = jnp.arange(256)
  return _table(
    jnp.where(levels < 128, levels + _scaled_int(level, 110), levels)
  )


def _scaled(level: ArrayLike, top: float) -> Array:
  """float32[], `top` at level 10; the product first keeps integers exact."""
  return jnp.asarray(level, jnp.float32) * top / 10


def _scaled_int(level: ArrayLike, top: float) -> Array:
  return jnp.floor(_scaled(level, top)).astype(jnp.int32)


def _factor(level: ArrayLike) -> Array:
  # In this order level 5 gives 1 exactly, which changes nothing.
  return (jnp.asarray(level, jnp.float32) * 18 + 10) / 100


def _sign(key: Array) -> Array:
  return jax.random.rademacher(key, (), jnp.float32)


def _table(levels: Array) -> Edit:
  """The edit that maps levels by int[3, 256] or int[256], clipped to bytes."""
  table = jnp.clip(levels, 0, 255).astype(jnp.uint8)
  table = jnp.broadcast_to(jnp.atleast_2d(table), (3, 256))
  return edits.identity()._replace(table=table)


def _blend(level: ArrayLike, *, blend_gray: bool) -> Edit:
  return edits.identity()._replace(
    factor=_factor(level), blend_gray=jnp.bool_(blend_gray)
  )


def _solarized(threshold: Array) -> Edit:
  levels = jnp.arange(256)
  return _table(jnp.where(levels < threshold, levels, 255 - levels))


def _matrix(*entries: ArrayLike) -> Edit:
  matrix = jnp.stack([jnp.asarray(entry, jnp.float32) for entry in entries])
  return edits.identity()._replace(matrix=matrix)


_REFERENCE_EDITS: dict[str, EditFn] = {
  'solarize': _reference_solarize,
  'contrast': _reference_contrast,
}
