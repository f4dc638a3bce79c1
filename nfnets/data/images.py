"""Encoded images to uint8[H, W, 3]: decoding, crops and resizing, by OpenCV."""

import math
from typing import NamedTuple

import cv2
import numpy as np

# Threads are ours to count: one image is one thread's work.
cv2.setNumThreads(0)

CROP_TRIES = 10
"""Draws of a random crop before it falls back to a centre crop."""

DRAWS_PER_CROP = 4 * CROP_TRIES
"""Uniform numbers that `random_crop_box` consumes."""


class Box(NamedTuple):
  """A rectangle of an image, in pixels."""

  top: int
  left: int
  height: int
  width: int


def decode(data: bytes | np.ndarray) -> np.ndarray:
  """Decodes an image file.

  Args:
    data: the file's bytes, or an image uint8[H, W, 3], returned as it is.

  Returns:
    uint8[H, W, 3], RGB.

  Raises:
    ValueError: the bytes are no image, or a damaged one.
  """
  if isinstance(data, np.ndarray):
    return data
  if not data:
    raise ValueError('empty file')
  flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
  image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
  if image is None:
    raise ValueError('not an image, or damaged')
  return image


def random_crop_box(
  height: int,
  width: int,
  draws: np.ndarray,
  area_range: tuple[float, float] = (0.08, 1.0),
  aspect_range: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
  """Draws the Inception-style random crop of an image.

  Each try draws the aspect ratio (width / height) uniformly, then the height
  uniformly among those that give an area in the range and fit, then the
  position uniformly.

  Args:
    height: of the image, pixels.
    width: of the image, pixels.
    draws: float[DRAWS_PER_CROP], uniform in [0, 1).
    area_range: of the crop, as shares of the image's area.
    aspect_range: of the crop, width / height.

  Returns:
    The crop; after `CROP_TRIES` failures the largest centre crop whose aspect
    is in the range.
  """
  for draw in draws.reshape(CROP_TRIES, 4).tolist():
    box = _try_crop_box(height, width, draw, area_range, aspect_range)
    if box is not None:
      return box
  aspect = min(max(width / height, aspect_range[0]), aspect_range[1])
  crop_height = min(height, max(1, round(width / aspect)))
  crop_width = min(width, max(1, round(height * aspect)))
  return Box(
    (height - crop_height) // 2,
    (width - crop_width) // 2,
    crop_height,
    crop_width,
  )


def _try_crop_box(
  height: int,
  width: int,
  draw: list[float],
  area_range: tuple[float, float],
  aspect_range: tuple[float, float],
) -> Box | None:
  """One try of `random_crop_box`, from four uniform numbers."""
  aspect = aspect_range[0] + draw[0] * (aspect_range[1] - aspect_range[0])
  smallest, largest = (share * height * width for share in area_range)
  low = round(math.sqrt(smallest / aspect))
  high = min(
    round(math.sqrt(largest / aspect)), height, int((width + 0.5) / aspect)
  )
  crop_height = low + int(draw[1] * (max(high - low, 0) + 1))
  crop_width = round(crop_height * aspect)
  area = crop_height * crop_width
  # Rounding may leave the range by a row.
  crop_height += int(area < smallest) - int(area > largest)
  crop_width = round(crop_height * aspect)
  fits = 0 < crop_height <= height and 0 < crop_width <= width
  if not fits or not smallest <= crop_height * crop_width <= largest:
    return None
  return Box(
    int(draw[2] * (height - crop_height + 1)),
    int(draw[3] * (width - crop_width + 1)),
    crop_height,
    crop_width,
  )


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """Resizes uint8[H, W, 3] bicubically, without antialiasing."""
  return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)


def random_resized_crop(
  image: np.ndarray,
  draws: np.ndarray,
  out: np.ndarray,
  area_range: tuple[float, float] = (0.08, 1.0),
  aspect_range: tuple[float, float] = (3 / 4, 4 / 3),
) -> None:
  """Writes a random crop of uint8[H, W, 3] into `out`, uint8[S, S, 3]."""
  height, width = image.shape[:2]
  box = random_crop_box(height, width, draws, area_range, aspect_range)
  crop = image[box.top : box.top + box.height, box.left : box.left + box.width]
  cv2.resize(crop, out.shape[1::-1], dst=out, interpolation=cv2.INTER_CUBIC)


def squash_crop(image: np.ndarray, out: np.ndarray) -> None:
  """The published NFNet evaluation crop of uint8[H, W, 3] into `out`.

  Both sides are resized to S + 32, whatever the aspect, and the centre is cut
  out.
  """
  size = len(out)
  squashed = resize(image, size + 32, size + 32)
  out[:] = squashed[16 : 16 + size, 16 : 16 + size]
