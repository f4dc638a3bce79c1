"""The sixteen operations of RandAugment, as Pillow defines them.

Each is `op(key, stats, magnitude) -> Edit`: given the statistics of an image
uint8[H, W, 3], it returns the edit that `edits.apply` makes to the image.
`magnitude` is RandAugment's, 0 or above: 10 is the top of the published scale,
and the larger NFNets use 15. `key` draws the sign of a geometric operation and
the center of the cutout; the other operations ignore it. Pixels from outside of
the image are gray, level 128.

The ranges are those of the published NFNet code, which differ from the paper's.
Its translations and cutouts are in pixels, at any image size. `relative=True`
scales them with the image; at 224 x 224 pixels they are the published ones.

That code also deviates from the definition of two operations;
`reference_quirks=True` reproduces it:

* Solarize compares bytes, so its threshold wraps around: 256 (magnitude 10,
  which should change nothing) becomes 0 (every pixel is inverted), and 384
  (magnitude 15) becomes 128.
* Contrast blends with a gray level that depends only on the size of the image:
  its number of pixels / 256, at most 255. That is 144 at 192 x 192 pixels, and
  white from 256 x 256 pixels up.

References:
  Cubuk et al, `RandAugment: Practical automated data augmentation with a
  reduced search space <https://arxiv.org/abs/1909.13719>`_, 2020, section 3.
"""

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from nfnets.augment import edits

Array: TypeAlias = jax.Array
Edit: TypeAlias = edits.Edit
ImageStats: TypeAlias = edits.ImageStats

# Distances at magnitude 10, pixels; if relative, in images of _REFERENCE_SIZE.
TRANSLATION = 100
_CUTOUT = 40
_REFERENCE_SIZE = 224  # side, pixels

# (key, stats, magnitude) -> Edit
Operation = Callable[[Array, ImageStats, ArrayLike], Edit]


def operations(
  *, reference_quirks: bool, relative: bool = False
) -> dict[str, Operation]:
  """Returns all operations by name, in the published order.

  Args:
    reference_quirks: reproduce the published code where it deviates from an
      operation's definition.
    relative: scale translations and the cutout with the image.
  """
  quirks = _REFERENCE_OPERATIONS if reference_quirks else {}
  return _OPERATIONS | quirks | (_RELATIVE_OPERATIONS if relative else {})


def distance(pixels: int, side: int, relative: bool) -> float:
  """Returns the distance at magnitude 10, pixels, in an image of this side.

  Args:
    pixels: the published distance.
    side: height or width of the image.
    relative: whether the distance scales with the image.
  """
  return pixels * side / _REFERENCE_SIZE if relative else pixels


def autocontrast(key: Array, stats: ImageStats, magnitude: ArrayLike) -> Edit:
  """Stretches the levels of each channel to the range 0 to 255."""
  del key, magnitude

  def stretch(histogram: Array, levels: Array) -> Array:
    seen = histogram > 0
    low = jnp.argmax(seen)
    high = 255 - jnp.argmax(seen[::-1])
    stretched = (levels - low) * 255 // jnp.maximum(high - low, 1)
    return jnp.where(high > low, stretched, levels)

  return _table(jax.vmap(stretch)(stats.histogram, stats.levels))


def equalize(key: Array, stats: ImageStats, magnitude: ArrayLike) -> Edit:
  """Equalizes the histogram of each channel."""
  del key, magnitude
  histogram = stats.histogram
  levels = jnp.arange(256)[None, :]
  highest = jnp.max(jnp.where(histogram > 0, levels, 0), axis=1, keepdims=True)
  # Pillow leaves the pixels of the highest level out of the step.
  of_highest = jnp.take_along_axis(histogram, highest, axis=1)
  step = (histogram.sum(axis=1, keepdims=True) - of_highest) // 255
  below = jnp.cumsum(histogram, axis=1) - histogram
  equalized = (step // 2 + below) // jnp.maximum(step, 1)
  return _table(jnp.where(step > 0, equalized, levels))


def invert(key: Array, stats: ImageStats, magnitude: ArrayLike) -> Edit:
  """Maps level x to 255 - x."""
  del key, magnitude
  return _table(255 - stats.levels)


def rotate(key: Array, stats: ImageStats, magnitude: ArrayLike) -> Edit:
  """Rotates by +-3 * magnitude degrees about the center."""
  radians = jnp.deg2rad(_scaled(magnitude, 30))
  cosine, sine = jnp.cos(radians), _sign(key) * jnp.sin(radians)
  x, y = stats.width / 2, stats.height / 2
  return _affine(
    *(cosine, -sine, x - cosine * x + sine * y),
    *(sine, cosine, y - sine * x - cosine * y),
  )


def posterize(key: Array, stats: ImageStats, magnitude: ArrayLike) -> Edit:
  """Keeps the int(0.4 * magnitude) highest bits of each level.

  A higher magnitude changes the image less. At least one bit is kept; below
  magnitude 2.5 the formula gives none.
  """
  del key
  bits = jnp.clip(_scaled_int(magnitude, 4), 1, 8)
  return _table(stats.levels & (0xFF00 >> bits))


def solarize(key: Array, stats: ImageStats, magnitude: ArrayLike) -> Edit:
  """Inverts levels >= int(25.6 * magnitude): none from magnitude 10 up."""
  del key
  return _solarize_from(stats, _scaled_int(magnitude, 256))


def _reference_solarize(
  key: Array, stats: ImageStats, magnitude: ArrayLike
) -> Edit:
  del key
  return _solarize_from(stats, _scaled_int(magnitude, 256) % 256)


def color(key: Array, stats: ImageStats, magnitude: ArrayLike) -> Edit:
  """Blends with the gray image, factor 0.18 * magnitude + 0.1."""
  del key, stats
  return _blend(magnitude, blend_gray=True)


def contrast(key: Array, stats: ImageStats, magnitude: ArrayLike) -> Edit:
  """Blends with the mean of the gray image, factor 0.18 * magnitude + 0.1."""
  del key
  return _blend_level(stats, stats.gray, magnitude)


def _reference_contrast(
  key: Array, stats: ImageStats, magnitude: ArrayLike
) -> Edit:
  del key
  mean = min(stats.height * stats.width // 256, 255)
  return _blend_level(stats, jnp.int32(mean), magnitude)


def brightness(key: Array, stats: ImageStats, magnitude: ArrayLike) -> Edit:
  """Blends with black, factor 0.18 * magnitude + 0.1."""
  del key
  return _blend_level(stats, jnp.int32(0), magnitude)


def sharpness(key: Array, stats: ImageStats, magnitude: ArrayLike) -> Edit:
  """Blends with the blurred image, factor 0.18 * magnitude + 0.1."""
  del key, stats
  return _blend(magnitude, blend_gray=False)


def shear_x(key: Array, stats: ImageStats, magnitude: ArrayLike) -> Edit:
  """Shifts row y by +-0.03 * magnitude * y pixels."""
  del stats
  return _affine(1, _sign(key) * _scaled(magnitude, 0.3), 0, 0, 1, 0)


def shear_y(key: Array, stats: ImageStats, magnitude: ArrayLike) -> Edit:
  """Shifts column x by +-0.03 * magnitude * x pixels."""
  del stats
  return _affine(1, 0, 0, _sign(key) * _scaled(magnitude, 0.3), 1, 0)


def translate_x(
  key: Array, stats: ImageStats, magnitude: ArrayLike, relative: bool = False
) -> Edit:
  """Shifts by +-10 * magnitude pixels along x, scaled if `relative`."""
  top = distance(TRANSLATION, stats.width, relative)
  return _affine(1, 0, _sign(key) * _scaled(magnitude, top), 0, 1, 0)


def translate_y(
  key: Array, stats: ImageStats, magnitude: ArrayLike, relative: bool = False
) -> Edit:
  """Shifts by +-10 * magnitude pixels along y, scaled if `relative`."""
  top = distance(TRANSLATION, stats.height, relative)
  return _affine(1, 0, 0, 0, 1, _sign(key) * _scaled(magnitude, top))


def cutout(
  key: Array, stats: ImageStats, magnitude: ArrayLike, relative: bool = False
) -> Edit:
  """Fills a square of side 2 * int(4 * magnitude), or scaled, with gray.

  The center is uniform over the pixels; edges of the image clip the square.
  """
  shape = jnp.array([stats.height, stats.width])
  center = jax.random.randint(key, (2,), 0, shape)
  top = distance(_CUTOUT, min(stats.height, stats.width), relative)
  half = _scaled_int(magnitude, top)
  box = jnp.stack([center - half, center + half], axis=1)
  return edits.identity()._replace(box=box)


def solarize_add(key: Array, stats: ImageStats, magnitude: ArrayLike) -> Edit:
  """Adds int(11 * magnitude) to levels below 128."""
  del key
  levels, added = stats.levels, _scaled_int(magnitude, 110)
  return _table(jnp.where(levels < 128, levels + added, levels))


def _scaled(magnitude: ArrayLike, top: float) -> Array:
  """Returns float32[], proportional to the magnitude, `top` at 10."""
  # Multiplying before dividing keeps integers exact.
  return jnp.asarray(magnitude, jnp.float32) * top / 10


def _scaled_int(magnitude: ArrayLike, top: float) -> Array:
  return jnp.floor(_scaled(magnitude, top)).astype(jnp.int32)


def _factor(magnitude: ArrayLike) -> Array:
  # In this order magnitude 5 gives exactly 1, which changes nothing.
  return (jnp.asarray(magnitude, jnp.float32) * 18 + 10) / 100


def _sign(key: Array) -> Array:
  return jax.random.rademacher(key, (), jnp.float32)


def _affine(*matrix: ArrayLike) -> Edit:
  entries = jnp.stack([jnp.asarray(entry, jnp.float32) for entry in matrix])
  return edits.identity()._replace(matrix=entries)


def _table(levels: Array) -> Edit:
  """Returns the edit that maps levels by int[3, 256], clipped."""
  table = jnp.clip(levels, 0, 255).astype(jnp.uint8)
  return edits.identity()._replace(table=table)


def _solarize_from(stats: ImageStats, threshold: Array) -> Edit:
  levels = stats.levels
  return _table(jnp.where(levels < threshold, levels, 255 - levels))


def _blend(magnitude: ArrayLike, *, blend_gray: bool) -> Edit:
  return edits.identity()._replace(
    factor=_factor(magnitude), blend_gray=jnp.bool_(blend_gray)
  )


def _blend_level(stats: ImageStats, level: Array, magnitude: ArrayLike) -> Edit:
  """Returns the edit that blends with an image of one level, int32[]."""
  return _table(edits.blend(level, stats.levels, _factor(magnitude)))


# The order decides which random number selects which operation.
_OPERATIONS: dict[str, Operation] = {
  'autocontrast': autocontrast,
  'equalize': equalize,
  'invert': invert,
  'rotate': rotate,
  'posterize': posterize,
  'solarize': solarize,
  'color': color,
  'contrast': contrast,
  'brightness': brightness,
  'sharpness': sharpness,
  'shear_x': shear_x,
  'shear_y': shear_y,
  'translate_x': translate_x,
  'translate_y': translate_y,
  'cutout': cutout,
  'solarize_add': solarize_add,
}
_REFERENCE_OPERATIONS: dict[str, Operation] = {
  'solarize': _reference_solarize,
  'contrast': _reference_contrast,
}
_RELATIVE_OPERATIONS: dict[str, Operation] = {
  operation.__name__: functools.partial(operation, relative=True)
  for operation in (translate_x, translate_y, cutout)
}
