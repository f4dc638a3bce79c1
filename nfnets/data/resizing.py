"""Bicubic resizing with antialiasing, as Pillow and timm do it."""

import functools

import numpy as np
from scipy import sparse

# float32 values at a time: all of a large image take gigabytes.
_BLOCK = 2**22


def resize_antialiased(
  image: np.ndarray, height: int, width: int, rows: range, columns: range
) -> np.ndarray:
  """Computes a part of an image resized with Pillow's antialiased bicubic.

  The width is resized first, then the height, each rounded to 8 bits. Pixels
  differ from Pillow's by at most 1, or 2 where the image is enlarged.

  Only the part is computed: resized to cover a square, a strip of 1 x 60000
  pixels would take gigabytes.

  Args:
    image: uint8[H, W, 3].
    height: the new height, pixels.
    width: the new width, pixels.
    rows: the rows of the resized image to compute, M in all.
    columns: the columns, N in all.

  Returns:
    uint8[M, N, 3].
  """
  top, vertical = _weights(image.shape[0], height, rows)
  left, horizontal = _weights(image.shape[1], width, columns)
  needed = image[
    top : top + vertical.shape[1], left : left + horizontal.shape[1]
  ]
  wide = _apply_weights(horizontal, needed.swapaxes(0, 1))
  return _apply_weights(vertical, wide.swapaxes(0, 1))


def _apply_weights(weights: sparse.csr_array, image: np.ndarray) -> np.ndarray:
  """Multiplies float32[M, N] by uint8[N, L, 3]; returns uint8[M, L, 3]."""
  columns = image.reshape(len(image), -1)
  out = np.empty((weights.shape[0], columns.shape[1]), np.uint8)
  step = max(1, _BLOCK // max(weights.shape))
  for start in range(0, columns.shape[1], step):
    block = slice(start, start + step)
    mixed = weights @ columns[:, block].astype(np.float32)
    out[:, block] = np.clip(np.floor(mixed + 0.5), 0, 255)
  return out.reshape(-1, *image.shape[1:])


@functools.lru_cache(maxsize=512)
def _weights(old: int, new: int, part: range) -> tuple[int, sparse.csr_array]:
  """Returns the antialiased cubic filter (a = -1/2) of a part of a side.

  Args:
    old: the side's length, pixels.
    new: its new length.
    part: the M new pixels to compute.

  Returns:
    The first of the N pixels that they depend on, and float32[M, N].
  """
  scale = old / new
  stretch = max(scale, 1.0)
  centers = (np.array(part) + 0.5) * scale
  reach = 2 * stretch
  first = np.maximum((centers - reach + 0.5).astype(int), 0)
  stop = np.minimum((centers + reach + 0.5).astype(int), old)
  rows = np.repeat(np.arange(len(part)), stop - first)
  columns = np.concatenate(list(map(np.arange, first, stop)))
  taps = _cubic((columns + 0.5 - centers[rows]) / stretch)
  taps /= np.bincount(rows, taps)[rows]
  start = int(first.min())
  entries = (taps.astype(np.float32), (rows, columns - start))
  shape = (len(part), int(stop.max()) - start)
  return start, sparse.csr_array(entries, shape=shape)


def _cubic(x: np.ndarray) -> np.ndarray:
  """Evaluates Keys' cubic convolution kernel with a = -1/2."""
  x = np.abs(x)
  near = (1.5 * x - 2.5) * x * x + 1
  far = ((-0.5 * x + 2.5) * x - 4) * x + 2
  return np.where(x < 1, near, np.where(x < 2, far, 0.0))
