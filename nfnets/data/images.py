"""Decodes images to uint8[H, W, 3] with OpenCV: one policy for all formats.

The result is RGB as stored in the file, by these rules:

- The content determines the format; the file's name does not matter.
- Gray becomes three equal channels; palettes and CMYK become RGB.
- 16-bit channels are scaled to 8 bits over their full range.
- Transparent pixels are composited over white, as viewers show them (in TIFF
  files over black, as OpenCV reads them).
- Orientation tags (EXIF) are ignored, as in the published pipeline.
- The first frame of an animation is used.
- A truncated file is an error, not a partial image.
- The formats are JPEG, PNG, GIF, BMP, WebP and TIFF: those for which the header
  is read first, so that an image that claims too many pixels is not decoded.
"""

import re

import cv2
import numpy as np

from nfnets.data import image_size, png

MAX_PIXELS = 100_000_000
"""The default limit of an image's size, height * width."""

# We start the threads ourselves: each image is decoded by one thread.
cv2.setNumThreads(0)
# The caller reports errors, once and with the file's name.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# OpenCV has no names for reduced RGB; the color bit in _AS_STORED selects it.
_REDUCED = {
  1: _AS_STORED,
  2: _AS_STORED | cv2.IMREAD_REDUCED_GRAYSCALE_2,
  4: _AS_STORED | cv2.IMREAD_REDUCED_GRAYSCALE_4,
  8: _AS_STORED | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
_TIFF_MAGIC = (b'II*\0', b'MM\0*')
_OTHER_FORMATS = {
  'AVIF or HEIC': re.compile(
    rb'....ftyp(avi[fs]|hei[cxms]|hev[cxms]|mif1|msf1)', re.DOTALL
  ),
  'JPEG 2000': re.compile(rb'\0\0\0\x0cjP  |\xff\x4f\xff\x51'),
  'JPEG XL': re.compile(rb'\0\0\0\x0cJXL |\xff\x0a'),
}


class DecodeError(ValueError):
  """The bytes are not a readable image; the message gives the reason."""


def decode(
  data: bytes | np.ndarray, reduction: int = 1, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
  """Decodes an image file (see the module's docstring for the rules).

  Args:
    data: the file's bytes, or an image uint8[H, W, 3], returned as it is.
    reduction: 1, 2, 4 or 8; JPEG only. Decodes the image at 1 / reduction of
      its size, rounded up: each pixel is the mean of a block. Only the block's
      low frequencies are decoded, which takes a fraction of the time.
    max_pixels: limit of the height * width that the file's header specifies,
      before the reduction.

  Returns:
    uint8[H, W, 3], RGB.

  Raises:
    DecodeError: the bytes are not an image, or the image is damaged, has too
      many pixels or does not fit in memory.
  """
  if isinstance(data, np.ndarray):
    return data
  if not data:
    raise DecodeError('empty file')
  size = image_size.read(data)
  if size is None:
    raise DecodeError(_reason(data))
  if size.height * size.width > max_pixels:
    raise DecodeError(f'{_shown(*size)}, more than max_pixels={max_pixels}')
  try:
    if data[:2] == b'\xff\xd8' or data[:4] in _TIFF_MAGIC:
      image = _imdecode(data, _REDUCED[reduction])
    else:
      is_png = data[:8] == png.MAGIC
      flawless = png.rewrite(data) if is_png else data
      image = _opaque_rgb(_imdecode(flawless, cv2.IMREAD_UNCHANGED))
  except MemoryError as error:
    raise DecodeError(f'{_shown(*size)} do not fit in memory') from error
  if image is None:
    raise DecodeError(_reason(data))
  return image


def _shown(height: int, width: int) -> str:
  return f'{width} x {height} pixels'


def jpeg_size(data: bytes | np.ndarray) -> tuple[int, int] | None:
  """Reads the height and width in a JPEG's header; None for anything else."""
  if isinstance(data, np.ndarray) or data[:2] != b'\xff\xd8':
    return None
  return image_size.read(data)


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
  """Encodes an image as a JPEG file.

  Args:
    image: uint8[H, W, 3], RGB.
    quality: from 0 to 100.
  """
  options = [cv2.IMWRITE_JPEG_QUALITY, quality]
  return cv2.imencode('.jpg', image[..., ::-1], options)[1].tobytes()


def _imdecode(data: bytes | None, flags: int) -> np.ndarray | None:
  if data is None:
    return None
  try:
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
  except cv2.error as error:
    reason = ' '.join(str(error).split())
    raise DecodeError(f'OpenCV: {reason}') from error


def _opaque_rgb(image: np.ndarray | None) -> np.ndarray | None:
  """Converts a result of IMREAD_UNCHANGED to uint8[H, W, 3], RGB over white."""
  if image is None:
    return None
  if image.dtype == np.uint16:
    # Rounds to nearest: 65535 becomes 255.
    image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
  if image.dtype != np.uint8:
    raise DecodeError(f'pixels of type {image.dtype}, not 8 or 16 bits')
  if image.ndim == 2:
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
  if image.shape[-1] == 3:
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
  rgba = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA).astype(np.uint16)
  alpha = rgba[..., 3:]
  mixed = rgba[..., :3] * alpha + 255 * (255 - alpha)
  return ((mixed + 127) // 255).astype(np.uint8)


def _reason(data: bytes) -> str:
  """Returns a likely reason why OpenCV could not decode non-empty bytes."""
  if data[:2] == b'\xff\xd8':
    ends = data.rstrip(b'\0').endswith(b'\xff\xd9')
    return 'damaged JPEG' if ends else 'truncated JPEG'
  if data[:8] == png.MAGIC:
    return 'damaged PNG' if b'IEND' in data[-16:] else 'truncated PNG'
  if not data.strip(b'\0'):
    return 'only zero bytes'
  for name, start in _OTHER_FORMATS.items():
    if start.match(data):
      return f'{name}, which cannot be read: convert it to JPEG or PNG'
  # Without the bytes: the file may be a link to one that is secret.
  return 'not an image, or a damaged one'
