"""Reads the size of an image from its header, before anything is decoded.

A header of a few bytes can claim a size for which a decoder allocates several
gigabytes. The formats here are those that `images.decode` accepts.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

from nfnets.data import png

# JPEG markers that start a frame: baseline, progressive and their relatives.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# JPEG markers without a length: TEM, RST0 to RST7, SOI.
_JPEG_BARE = frozenset((0x01, *range(0xD0, 0xD9)))
_BMP_CORE_HEADER = 12  # bytes, the header of OS/2
# TIFF tags, and the struct codes of the types of integers.
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 322, 323
_TIFF_TYPES = {
  1: 'B', 3: 'H', 4: 'I', 16: 'Q', 6: 'b', 8: 'h', 9: 'i', 17: 'q'
}  # fmt: skip
_TIFF_MAX_ENTRIES = 4096  # The limit of libtiff.
_JPEG_MAX_SEGMENTS = 10_000


class Size(NamedTuple):
  """An image's size in pixels."""

  height: int
  width: int


def read(data: bytes) -> Size | None:
  """Reads the size of an encoded image.

  Args:
    data: the bytes of a JPEG, PNG, GIF, BMP, WebP or TIFF file.

  Returns:
    The size, as the decoder will allocate it: that of the larger of image and
    tile for TIFF. None for another format, and for a damaged header or an empty
    image.
  """
  for magic, reader in _READERS.items():
    if data.startswith(magic):
      try:
        size = reader(data)
      except (struct.error, IndexError, OverflowError):  # Beyond the end.
        return None
      return size if size and min(size) > 0 else None
  return None


def is_known(data: bytes) -> bool:
  """Returns whether a file starts like one of the formats of `read`.

  Args:
    data: the first 16 bytes of the file, or more.
  """
  # Sounds and videos are RIFF files too, and many texts start with 'BM'.
  if data.startswith(b'RIFF'):
    return data[8:12] == b'WEBP'
  if data.startswith(b'BM'):
    return data[6:10] == bytes(4)
  return data.startswith(tuple(_READERS))


def _jpeg(data: bytes) -> Size | None:
  at = 2
  for _ in range(_JPEG_MAX_SEGMENTS):
    # As libjpeg does, skips bytes between segments.
    at = data.find(b'\xff', at)
    if at < 0:
      return None
    marker = data[at + 1]
    if marker in (0x00, 0xFF):
      at += 1
    elif marker in _JPEG_FRAMES:
      return Size(*struct.unpack_from('>HH', data, at + 5))
    elif marker in _JPEG_BARE:
      at += 2
    else:
      at += 2 + max(2, *struct.unpack_from('>H', data, at + 2))
  return None


def _png(data: bytes) -> Size | None:
  kind, width, height = struct.unpack_from('>4sII', data, 12)
  return Size(height, width) if kind == b'IHDR' else None


def _gif(data: bytes) -> Size:
  width, height = struct.unpack_from('<HH', data, 6)
  return Size(height, width)


def _bmp(data: bytes) -> Size:
  (header,) = struct.unpack_from('<I', data, 14)
  form = '<HH' if header == _BMP_CORE_HEADER else '<ii'
  width, height = struct.unpack_from(form, data, 18)
  # A negative height stores the rows from top to bottom.
  return Size(abs(height), abs(width))


def _webp(data: bytes) -> Size | None:
  kind = data[8:16]
  if kind == b'WEBPVP8X':
    width, height = data[24:27], data[27:30]
    if len(height) < 3:
      return None
    sides = (int.from_bytes(side, 'little') + 1 for side in (height, width))
    return Size(*sides)
  if kind == b'WEBPVP8L':
    (bits,) = struct.unpack_from('<I', data, 21)
    return Size((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
  if kind == b'WEBPVP8 ':
    width, height = struct.unpack_from('<HH', data, 26)
    return Size(height & 0x3FFF, width & 0x3FFF)
  return None


def _tiff(data: bytes) -> Size | None:
  order = '<' if data[:1] == b'I' else '>'
  is_big = data[2] + data[3] == 43  # BigTIFF has 64-bit offsets and counts.
  offset, count, value_at = ('Q', 'Q', 12) if is_big else ('I', 'H', 8)
  (at,) = struct.unpack_from(order + offset, data, 8 if is_big else 4)
  (entries,) = struct.unpack_from(order + count, data, at)
  at += struct.calcsize(order + count)
  step = 20 if is_big else 12
  tags: dict[int, int] = {}
  for entry in range(at, at + step * min(entries, _TIFF_MAX_ENTRIES), step):
    tag, kind = struct.unpack_from(order + 'HH', data, entry)
    if kind in _TIFF_TYPES:
      form = order + _TIFF_TYPES[kind]
      (value,) = struct.unpack_from(form, data, entry + value_at)
      tags[tag] = max(value, tags.get(tag, 0))  # The larger of duplicates.
  size = Size(tags.get(_TIFF_HEIGHT, 0), tags.get(_TIFF_WIDTH, 0))
  tile = Size(tags.get(_TIFF_TILE_HEIGHT, 0), tags.get(_TIFF_TILE_WIDTH, 0))
  if min(size) <= 0:
    return None
  return max(size, tile, key=lambda s: s.height * s.width)


_READERS: dict[bytes, Callable[[bytes], Size | None]] = {
  b'\xff\xd8': _jpeg,
  png.MAGIC: _png,
  b'GIF8': _gif,
  b'BM': _bmp,
  b'RIFF': _webp,
  b'II*\0': _tiff,
  b'MM\0*': _tiff,
  b'II+\0': _tiff,
  b'MM\0+': _tiff,
}
