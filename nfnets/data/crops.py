"""Cropping and resizing of images, for training and for evaluation.

References:
  Szegedy et al, `Going Deeper with Convolutions
  <https://arxiv.org/abs/1409.4842>`_, 2014, section 6 (the random crop).

  Brock et al, `High-Performance Large-Scale Image Recognition Without
  Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, section 5
  (evaluation at a larger size).
"""

import math
from typing import NamedTuple, cast

import cv2
import numpy as np

from nfnets import errors
from nfnets.data import images, presets, resizing

CROP_TRIES = 10
"""Number of attempts at a random crop before the center is used."""

DRAWS_PER_CROP = 4 * CROP_TRIES
"""Number of uniform draws that `random_crop_box` takes."""

MARGIN = 32
"""Pixels by which the published presets resize beyond the size of the crop."""

_CROP_MODES = ('squash', 'center')


class Box(NamedTuple):
  """A rectangle in an image, in pixels."""

  top: int
  left: int
  height: int
  width: int


def random_crop_box(
  height: int,
  width: int,
  draws: np.ndarray,
  area_range: tuple[float, float] = (0.08, 1.0),
  aspect_range: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
  """Draws the Inception-style crop of an image.

  Each attempt draws an aspect ratio uniformly, then a height uniformly among
  those that give an area in the range and fit into the image, then a position
  uniformly. This is the published distribution (TensorFlow's). torchvision's
  differs: it draws the area uniformly and the aspect ratio log-uniformly. The
  published pipeline also requires that a crop covers a tenth of the image,
  which rejects areas from 8% to 10%; `area_range=(0.1, 1.0)` does the same.

  Args:
    height: the image's height, pixels.
    width: the image's width, pixels.
    draws: float[DRAWS_PER_CROP], uniform in [0, 1); the only randomness.
    area_range: smallest and largest area of the crop, as fractions of the
      image's area.
    aspect_range: smallest and largest aspect ratio of the crop, width / height.

  Returns:
    The crop. After `CROP_TRIES` failed attempts: the largest centered crop with
    an aspect ratio in the range, ignoring `area_range`.
  """
  for draw in draws.reshape(CROP_TRIES, 4).tolist():
    box = _try_crop_box(height, width, draw, area_range, aspect_range)
    if box is not None:
      return box
  aspect = min(max(width / height, aspect_range[0]), aspect_range[1])
  crop_height = min(height, max(1, round(width / aspect)))
  crop_width = min(width, max(1, round(height * aspect)))
  return _centered(height, width, crop_height, crop_width)


def _try_crop_box(
  height: int,
  width: int,
  draw: list[float],
  area_range: tuple[float, float],
  aspect_range: tuple[float, float],
) -> Box | None:
  """Makes one attempt of `random_crop_box`, with four uniform draws."""
  aspect = aspect_range[0] + draw[0] * (aspect_range[1] - aspect_range[0])
  smallest, largest = (part * height * width for part in area_range)
  low = round(math.sqrt(smallest / aspect))
  fitting = min(height, int((width + 0.5) / aspect))
  high = min(round(math.sqrt(largest / aspect)), fitting)
  crop_height = low + int(draw[1] * (max(high - low, 0) + 1))
  area = crop_height * round(crop_height * aspect)
  # Rounding may leave the range by one row: step back.
  crop_height += int(area < smallest) - int(area > largest)
  crop_width = round(crop_height * aspect)
  fits = 0 < crop_height <= height and 0 < crop_width <= width
  if not fits or not smallest <= crop_height * crop_width <= largest:
    return None
  top = int(draw[2] * (height - crop_height + 1))
  left = int(draw[3] * (width - crop_width + 1))
  return Box(top, left, crop_height, crop_width)


def random_resized_crop(
  data: bytes | np.ndarray,
  draws: np.ndarray,
  out: np.ndarray,
  area_range: tuple[float, float] = (0.08, 1.0),
  aspect_range: tuple[float, float] = (3 / 4, 4 / 3),
  scaled_decoding: bool = False,
  max_pixels: int = images.MAX_PIXELS,
) -> None:
  """Decodes an image and writes a resized random crop of it into `out`.

  Resizing is bicubic without antialiasing, as published.

  Args:
    data: an encoded image, or uint8[H, W, 3].
    draws: float[DRAWS_PER_CROP], as in `random_crop_box`.
    out: uint8[S, S, 3], contiguous; written in place.
    area_range: see `random_crop_box`.
    aspect_range: see `random_crop_box`.
    scaled_decoding: whether to decode a JPEG at 1/2 (1/4, 1/8) of its size if
      both sides of the crop are at least 2 (4, 8) times those of `out`. These
      crops are then antialiased rather than aliased, and shifted by less than
      one pixel of `out`.
    max_pixels: see `images.decode`.

  Raises:
    images.DecodeError: the data cannot be decoded.
  """
  reduction, ranges = 1, (area_range, aspect_range)
  if scaled_decoding and (size := images.jpeg_size(data)):
    box = random_crop_box(*size, draws, *ranges)
    reduction = _reduction(box, len(out))
  image = images.decode(data, reduction, max_pixels)
  if reduction > 1:
    _resize_reduced_into(image, box, reduction, out)
  else:
    height, width = image.shape[:2]
    box = random_crop_box(height, width, draws, *ranges)
    _resize_into(_cut(image, box), out)


def _reduction(box: Box, size: int) -> int:
  """Returns the largest reduction that keeps both sides >= `size` pixels."""
  smaller = min(box.height, box.width) // size
  return next((r for r in (8, 4, 2) if smaller >= r), 1)


def _resize_reduced_into(
  image: np.ndarray, box: Box, reduction: int, out: np.ndarray
) -> None:
  """Resizes a crop from a reduced image; the box is in full-size pixels.

  The corners of the crop may fall between pixels of the reduced image, hence a
  warp that samples between them.
  """
  height, width = out.shape[:2]
  step_y = box.height / (height * reduction)
  step_x = box.width / (width * reduction)
  # Pixel i covers [i, i + 1); its center is at i + 1/2.
  grid = np.array(
    [
      [step_x, 0, box.left / reduction + step_x / 2 - 0.5],
      [0, step_y, box.top / reduction + step_y / 2 - 0.5],
    ]
  )
  flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
  size, border = (width, height), cv2.BORDER_REPLICATE
  cv2.warpAffine(image, grid, size, dst=out, flags=flags, borderMode=border)


def eval_crop(
  data: bytes | np.ndarray,
  out: np.ndarray,
  preset: presets.EvalPreset,
  crop_pct: float,
  crop_mode: str,
  max_pixels: int = images.MAX_PIXELS,
) -> None:
  """Decodes an image and writes its evaluation crop into `out`.

  The arguments must pass `check_preset`.

  Args:
    data: an encoded image, or uint8[H, W, 3].
    out: uint8[S, S, 3]; written in place.
    preset: 'deepmind' resizes both sides to S + 32, bicubic without
      antialiasing and ignoring the aspect ratio, and crops the center: the
      published evaluation of NFNets. 'deepmind_crop' crops the centered square
      with S / (S + 32) of the shorter side, and resizes it: the published
      evaluation of ResNets and NF-RegNets. 'timm' resizes to S / crop_pct,
      bicubic with antialiasing, and crops the center.
    crop_pct: for 'timm': S as a fraction of the resized side.
    crop_mode: for 'timm': 'squash' resizes both sides to S / crop_pct,
      'center' the shorter one, keeping the aspect ratio.
    max_pixels: see `images.decode`.

  Raises:
    images.DecodeError: the data cannot be decoded.
  """
  image = images.decode(data, max_pixels=max_pixels)
  if preset == 'deepmind':
    _squash_then_cut(image, out)
  elif preset == 'deepmind_crop':
    _cut_then_resize(image, out)
  else:
    _antialias_then_cut(image, out, crop_pct, crop_mode)


def check_preset(
  preset: str, crop_pct: float, crop_mode: str
) -> presets.EvalPreset:
  """Checks the settings of `eval_crop`.

  Returns:
    The preset.

  Raises:
    UserError: a setting has a value that `eval_crop` does not support.
  """
  for what, value, known in (
    ('evaluation preset', preset, presets.EVAL_PRESETS),
    ('crop mode', crop_mode, _CROP_MODES),
  ):
    if value not in known:
      raise errors.UserError(
        f'{what} {value!r} does not exist; choose one of {", ".join(known)}'
      )
  if not 0 < crop_pct <= 1:
    raise errors.UserError(f'crop_pct {crop_pct} is not in (0, 1]')
  return cast(presets.EvalPreset, preset)


def _squash_then_cut(image: np.ndarray, out: np.ndarray) -> None:
  side = len(out) + MARGIN
  squashed = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
  cut = MARGIN // 2
  out[:] = squashed[cut:-cut, cut:-cut]


def _cut_then_resize(image: np.ndarray, out: np.ndarray) -> None:
  height, width = image.shape[:2]
  side = max(1, len(out) * min(height, width) // (len(out) + MARGIN))
  # The published code rounds the margin up.
  box = Box((height - side + 1) // 2, (width - side + 1) // 2, side, side)
  _resize_into(_cut(image, box), out)


def _antialias_then_cut(
  image: np.ndarray, out: np.ndarray, crop_pct: float, crop_mode: str
) -> None:
  size = len(out)
  side = math.floor(size / crop_pct)
  height, width = image.shape[:2]
  if crop_mode == 'squash':
    new_height = new_width = side
  else:
    shorter = min(height, width)
    new_height, new_width = side * height // shorter, side * width // shorter
  top, left = round((new_height - size) / 2), round((new_width - size) / 2)
  rows, columns = range(top, top + size), range(left, left + size)
  out[:] = resizing.resize_antialiased(
    image, new_height, new_width, rows, columns
  )


def _centered(
  height: int, width: int, crop_height: int, crop_width: int
) -> Box:
  top, left = (height - crop_height) // 2, (width - crop_width) // 2
  return Box(top, left, crop_height, crop_width)


def _cut(image: np.ndarray, box: Box) -> np.ndarray:
  rows = slice(box.top, box.top + box.height)
  return image[rows, box.left : box.left + box.width]


def _resize_into(crop: np.ndarray, out: np.ndarray) -> None:
  size = (out.shape[1], out.shape[0])
  cv2.resize(crop, size, dst=out, interpolation=cv2.INTER_CUBIC)
