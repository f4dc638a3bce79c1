"""Rewrites PNG files so that their decoder has nothing to report.

The decoder, libpng, prints what it dislikes about a file on stderr, such as a
color profile: without the file's name, and each time that it decodes the file.

References:
  W3C, `Portable Network Graphics (PNG) Specification
  <https://www.w3.org/TR/png-3/>`_, 2025.
"""

import itertools
import struct
import zlib
from typing import NamedTuple

import numpy as np

MAGIC = b'\x89PNG\r\n\x1a\n'
"""The first bytes of a PNG file."""

_MAX_SIDE = 1_000_000  # The limit of libpng.
_MAX_CHUNK = 2**30  # Bytes; its limit is just below 2**31.
_PALETTE = 3
# Color type -> channels, bits per channel.
_COLOR_TYPES = {
  0: (1, (1, 2, 4, 8, 16)),
  2: (3, (8, 16)),
  _PALETTE: (1, (1, 2, 4, 8)),
  4: (2, (8, 16)),
  6: (4, (8, 16)),
}
# Color type -> bytes of the color in tRNS that is transparent.
_TRANSPARENT = {0: 2, 2: 6}
# Adam7: (first row, row step, first column, column step) of each pass.
_PASSES = (
  *((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4)),
  *((2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)),
)
_MAX_FILTER = 4


class _Header(NamedTuple):
  """The fields of the chunk IHDR, in its order."""

  width: int
  height: int
  depth: int
  color_type: int
  compression: int
  filtering: int
  interlace: int


def rewrite(data: bytes) -> bytes | None:
  """Returns an equal image in a flawless PNG file without other contents.

  Only chunks that determine pixels are kept. The first image of an animation is
  the one for programs that cannot animate.

  Args:
    data: the bytes of a PNG file; its size in pixels is acceptable.

  Returns:
    The file, its pixels not compressed; None if it is damaged.
  """
  try:
    chunks = _read_chunks(data)
    header = _Header(*struct.unpack('>IIBBBBB', chunks[b'IHDR']))
    pixels = _inflate(chunks[b'IDAT'], header)
    colors = _colors(chunks, header)
  except (KeyError, ValueError, struct.error, zlib.error):
    return None
  stored = zlib.compress(pixels, 0)
  kept = [
    (b'IHDR', chunks[b'IHDR']),
    *colors.items(),
    *(
      (b'IDAT', stored[start : start + _MAX_CHUNK])
      for start in range(0, len(stored), _MAX_CHUNK)
    ),
    (b'IEND', b''),
  ]
  return MAGIC + b''.join(itertools.starmap(_chunk, kept))


def _read_chunks(data: bytes) -> dict[bytes, bytes]:
  """Returns the contents of the chunks by their names; joins those of IDAT.

  Raises:
    ValueError: the file is cut off, a checksum is wrong, or a chunk is unknown
      without which the pixels have no meaning.
  """
  chunks: dict[bytes, bytes] = {}
  pixels: list[bytes] = []
  at = len(MAGIC)
  kind = b''
  while kind != b'IEND':
    length, kind = struct.unpack_from('>I4s', data, at)
    named, at = data[at + 4 : at + 8 + length], at + 12 + length
    critical = not kind[0] & 0x20  # An upper case letter.
    if critical or kind == b'tRNS':
      if struct.unpack_from('>I', data, at - 4)[0] != zlib.crc32(named):
        raise ValueError(f'{kind!r}: wrong checksum')
      if kind == b'IDAT':
        pixels.append(named[4:])
      elif kind in (b'IHDR', b'PLTE', b'tRNS', b'IEND'):
        chunks.setdefault(kind, named[4:])
      else:
        raise ValueError(f'{kind!r}: unknown chunk')
  return chunks | {b'IDAT': b''.join(pixels)}


def _inflate(compressed: bytes, header: _Header) -> bytes:
  """Returns the filtered rows of pixels.

  Raises:
    ValueError: the header or a row is not valid.
    zlib.error: the data is not.
  """
  shapes = _row_shapes(header)
  expected = sum(rows * stride for rows, stride in shapes)
  inflater = zlib.decompressobj()
  pixels = inflater.decompress(compressed, expected)
  if len(pixels) < expected:
    raise ValueError(f'{len(pixels)} of {expected} bytes of pixels')
  inflater.decompress(inflater.unconsumed_tail, 1)  # Compares the checksum.
  at, array = 0, np.frombuffer(pixels, np.uint8)
  for rows, stride in shapes:
    if (array[at : at + rows * stride : stride] > _MAX_FILTER).any():
      raise ValueError('a row has an unknown filter')
    at += rows * stride
  return pixels


def _row_shapes(header: _Header) -> list[tuple[int, int]]:
  """Returns the number of rows of each pass, and the bytes of a row.

  Raises:
    ValueError: the header is not valid.
  """
  channels, depths = _COLOR_TYPES[header.color_type]
  if (
    header.depth not in depths
    or header.compression
    or header.filtering
    or header.interlace > 1
    or max(header.width, header.height) > _MAX_SIDE
  ):
    raise ValueError(f'invalid {header}')
  passes = _PASSES if header.interlace else ((0, 1, 0, 1),)
  sizes = [
    (
      len(range(header.height)[top::down]),
      len(range(header.width)[left::right]),
    )
    for top, down, left, right in passes
  ]
  # The first byte of a row is its filter.
  return [
    (rows, 1 + -(-columns * channels * header.depth // 8))
    for rows, columns in sizes
    if rows and columns
  ]


def _colors(chunks: dict[bytes, bytes], header: _Header) -> dict[bytes, bytes]:
  """Returns the palette and what is transparent, with valid lengths."""
  transparent = chunks.get(b'tRNS', b'')
  if header.color_type == _PALETTE:
    entries = 2**header.depth
    palette = chunks[b'PLTE'][: 3 * entries]
    # Pixels may refer to colors that are missing.
    colors = {b'PLTE': palette.ljust(3 * entries, b'\0')}
    return colors | ({b'tRNS': transparent[:entries]} if transparent else {})
  valid = len(transparent) == _TRANSPARENT.get(header.color_type)
  return {b'tRNS': transparent} if valid else {}


def _chunk(kind: bytes, content: bytes) -> bytes:
  checksum = zlib.crc32(content, zlib.crc32(kind))
  return (
    struct.pack('>I4s', len(content), kind)
    + content
    + struct.pack('>I', checksum)
  )
