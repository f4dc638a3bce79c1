"""Crops and resizing of uint8[H, W, 3]: for training, and to evaluate.

References:
  Szegedy et al., Going deeper with convolutions, 2015, section 6 (the crop).
  Brock et al., High-Performance Large-Scale Image Recognition Without
  Normalization, 2021, section 5 (evaluation at a larger size).
"""

import functools
import math
from typing import NamedTuple

import cv2
import numpy as np
from scipy import sparse

from nfnets import errors
from nfnets.data import images

CROP_TRIES = 10
"""Tries at a random crop before the centre is taken."""

DRAWS_PER_CROP = 4 * CROP_TRIES
"""Uniform numbers that `random_crop_box` is given."""


class Box(NamedTuple):
  """A rectangle of an image, in pixels."""

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

  Each try draws an aspect ratio uniformly, then a height uniformly among those
  with an area in the range that fit into the image, then a position uniformly.
  This is the published distribution (TensorFlow's), not that of torchvision,
  which draws the area uniformly and the aspect's logarithm. The published
  pipeline also asks for a tenth of the image to be covered, which refuses the
  crops of 8% to 10%: `area_range=(0.1, 1.0)` does the same.

  Args:
    height: of the image, pixels.
    width: of the image, pixels.
    draws: float[DRAWS_PER_CROP], uniform in [0, 1): all the randomness.
    area_range: of the crop, as shares of the image's area.
    aspect_range: of the crop, width / height.

  Returns:
    The crop. After `CROP_TRIES` failures: the largest centred one whose aspect
    is in the range, whatever its area.
  """
  for draw in draws.reshape(CROP_TRIES, 4).tolist():
    box = _try_crop_box(height, width, draw, area_range, aspect_range)
    if box is not None:
      return box
  aspect = min(max(width / height, aspect_range[0]), aspect_range[1])
  crop_height = min(height, max(1, round(width / aspect)))
  crop_width = min(width, max(1, round(height * aspect)))
  return _centred(height, width, crop_height, crop_width)


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
  fitting = min(height, int((width + 0.5) / aspect))
  high = min(round(math.sqrt(largest / aspect)), fitting)
  crop_height = low + int(draw[1] * (max(high - low, 0) + 1))
  area = crop_height * round(crop_height * aspect)
  # Rounding may leave the range by one row.
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
) -> None:
  """Decodes an image and writes a random crop of it, resized, into `out`.

  The resizing is bicubic without antialiasing, as published.

  Args:
    data: an encoded image, or uint8[H, W, 3].
    draws: float[DRAWS_PER_CROP], as in `random_crop_box`.
    out: uint8[S, S, 3], contiguous; written in place.
    area_range: as in `random_crop_box`.
    aspect_range: as in `random_crop_box`.
    scaled_decoding: whether a JPEG whose crop has at least twice (4, 8 times)
      the pixels that `out` needs on both sides is decoded at a half (quarter,
      eighth) of its size. Such crops come out antialiased, where they would
      have been aliased, and shifted by less than one pixel of `out`.

  Raises:
    images.DecodeError: the data cannot be decoded.
  """
  reduction, ranges = 1, (area_range, aspect_range)
  if scaled_decoding and (size := images.jpeg_size(data)):
    box = random_crop_box(*size, draws, *ranges)
    reduction = _reduction(box, len(out))
  image = images.decode(data, reduction)
  if reduction > 1:
    _resize_reduced_into(image, box, reduction, out)
  else:
    height, width = image.shape[:2]
    box = random_crop_box(height, width, draws, *ranges)
    _resize_into(_cut(image, box), out)


def _reduction(box: Box, size: int) -> int:
  """The largest reduction that leaves a crop at least `size` pixels."""
  smaller = min(box.height, box.width) // size
  return next((r for r in (8, 4, 2) if smaller >= r), 1)


def _resize_reduced_into(
  image: np.ndarray, box: Box, reduction: int, out: np.ndarray
) -> None:
  """Resizes a crop, given in pixels of the full image, from a reduced one.

  The corners of the crop fall between pixels of the reduced image, so the
  samples are taken where they belong, not on its grid.
  """
  height, width = out.shape[:2]
  step_y = box.height / (height * reduction)
  step_x = box.width / (width * reduction)
  # Pixel i covers [i, i + 1); its value belongs to i + 1/2.
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
  image: np.ndarray,
  out: np.ndarray,
  preset: str,
  crop_pct: float,
  crop_mode: str,
) -> None:
  """Writes the evaluation crop of uint8[H, W, 3] into `out`, uint8[S, S, 3].

  Args:
    image: the whole image.
    out: written in place.
    preset: 'deepmind' resizes both sides to S + 32, bicubic without
      antialiasing, whatever the aspect, and cuts out the centre: the NFNets'
      published evaluation. 'deepmind_crop' cuts the centred square of
      S / (S + 32) of the shorter side and resizes it: the published
      evaluation of ResNets and NF-RegNets. 'timm' resizes to S / crop_pct,
      bicubic with antialiasing, and cuts out the centre.
    crop_pct: for 'timm': S as a share of the resized side.
    crop_mode: for 'timm': 'squash' resizes both sides to S / crop_pct,
      'center' the shorter one, keeping the aspect.

  See `check_preset` for what is refused.
  """
  if preset == 'deepmind':
    _squash_then_cut(image, out)
  elif preset == 'deepmind_crop':
    _cut_then_resize(image, out)
  else:
    _antialias_then_cut(image, out, crop_pct, crop_mode)


def check_preset(preset: str, crop_pct: float, crop_mode: str) -> None:
  """Raises a UserError unless `eval_crop` knows these settings."""
  for what, value, known in (
    ('evaluation preset', preset, ('deepmind', 'deepmind_crop', 'timm')),
    ('crop mode', crop_mode, ('squash', 'center')),
  ):
    if value not in known:
      raise errors.UserError(f'{what} {value!r} is none of {", ".join(known)}')
  if not 0 < crop_pct <= 1:
    raise errors.UserError(f'crop_pct {crop_pct} is not in (0, 1]')


def _squash_then_cut(image: np.ndarray, out: np.ndarray) -> None:
  side = len(out) + 32
  squashed = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
  out[:] = squashed[16:-16, 16:-16]


def _cut_then_resize(image: np.ndarray, out: np.ndarray) -> None:
  height, width = image.shape[:2]
  side = max(1, len(out) * min(height, width) // (len(out) + 32))
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
  resized = resize_antialiased(image, new_height, new_width)
  top, left = round((new_height - size) / 2), round((new_width - size) / 2)
  out[:] = _cut(resized, Box(top, left, size, size))


def resize_antialiased(
  image: np.ndarray, height: int, width: int
) -> np.ndarray:
  """Resizes uint8[H, W, 3] bicubically, with antialiasing, as Pillow does.

  Width first, then height, rounded to 8 bits after each; a pixel differs from
  Pillow's by 1 at most.
  """
  wide = _apply_weights(_weights(image.shape[1], width), image.swapaxes(0, 1))
  return _apply_weights(_weights(image.shape[0], height), wide.swapaxes(0, 1))


def _apply_weights(weights: sparse.csr_array, image: np.ndarray) -> np.ndarray:
  """Float32[M, N] times uint8[N, L, 3] -> uint8[M, L, 3]."""
  columns = image.reshape(len(image), -1).astype(np.float32)
  mixed = (weights @ columns).reshape(-1, *image.shape[1:])
  return np.clip(np.floor(mixed + 0.5), 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=512)
def _weights(old: int, new: int) -> sparse.csr_array:
  """The antialiased cubic filter (a = -1/2) as a matrix float32[new, old]."""
  scale = old / new
  stretch = max(scale, 1.0)
  centres = (np.arange(new) + 0.5) * scale
  reach = 2 * stretch
  first = np.maximum((centres - reach + 0.5).astype(int), 0)
  stop = np.minimum((centres + reach + 0.5).astype(int), old)
  rows = np.repeat(np.arange(new), stop - first)
  columns = np.concatenate(list(map(np.arange, first, stop)))
  taps = _cubic((columns + 0.5 - centres[rows]) / stretch)
  taps /= np.bincount(rows, taps)[rows]
  entries = (taps.astype(np.float32), (rows, columns))
  return sparse.csr_array(entries, shape=(new, old))


def _cubic(x: np.ndarray) -> np.ndarray:
  """Keys' cubic convolution kernel with a = -1/2."""
  x = np.abs(x)
  near = (1.5 * x - 2.5) * x * x + 1
  far = ((-0.5 * x + 2.5) * x - 4) * x + 2
  return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _centred(height: int, width: int, crop_height: int, crop_width: int) -> Box:
  top, left = (height - crop_height) // 2, (width - crop_width) // 2
  return Box(top, left, crop_height, crop_width)


def _cut(image: np.ndarray, box: Box) -> np.ndarray:
  rows = slice(box.top, box.top + box.height)
  return image[rows, box.left : box.left + box.width]


def _resize_into(crop: np.ndarray, out: np.ndarray) -> None:
  size = (out.shape[1], out.shape[0])
  cv2.resize(crop, size, dst=out, interpolation=cv2.INTER_CUBIC)
