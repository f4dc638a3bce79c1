"""PNG files that libpng would complain of, without a file's name."""

import os
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from nfnets.data import images, png
from tests.data import pictures


def chunk(kind, content):
  checksum = zlib.crc32(kind + content)
  return (
    struct.pack('>I4s', len(content), kind) + content + checksum.to_bytes(4)
  )


def file(*chunks):
  return png.MAGIC + b''.join(chunks) + chunk(b'IEND', b'')


def header(width, height, depth=8, color=2, *rest):
  rest = rest or (0, 0, 0)
  return chunk(
    b'IHDR', struct.pack('>IIBBBBB', width, height, depth, color, *rest)
  )


def rows(image):
  """Returns the rows of uint8[H, W, C], none of them filtered."""
  return b''.join(b'\0' + row.tobytes() for row in image)


def pixels(data):
  return chunk(b'IDAT', zlib.compress(data))


PHOTO = pictures.photograph(24, 32)
PHOTO_HEADER = header(32, 24)
PHOTO_PIXELS = pixels(rows(PHOTO))
PLAIN = file(PHOTO_HEADER, PHOTO_PIXELS)
INDICES = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
COLORS = np.random.default_rng(0).integers(0, 256, (16, 3), np.uint8)


def photo_with(*extra):
  return file(PHOTO_HEADER, *extra, PHOTO_PIXELS)


def altered(data, at):
  return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


# Read with warnings of libpng -> still read.
IMPERFECT = {
  'profile': photo_with(chunk(b'iCCP', b'sRGB\0\0' + zlib.compress(bytes(9)))),
  'text': photo_with(altered(chunk(b'tEXt', b'Title\0none'), 12)),
  'compressed text': photo_with(chunk(b'zTXt', b'Title\0\0none')),
  'orientation': photo_with(chunk(b'eXIf', b'none')),
  'resolution': photo_with(chunk(b'pHYs', b'none')),
  'palette': photo_with(chunk(b'PLTE', bytes(9)), chunk(b'PLTE', bytes(3))),
  'odd palette': photo_with(chunk(b'PLTE', bytes(8))),
  'transparency': photo_with(chunk(b'tRNS', bytes(5))),
  'order': file(PHOTO_HEADER, PHOTO_PIXELS, chunk(b'gAMA', bytes(4))),
  'more pixels': file(PHOTO_HEADER, pixels(rows(PHOTO) + b'more')),
  'more data': file(
    PHOTO_HEADER, chunk(b'IDAT', zlib.compress(rows(PHOTO)) + b'more')
  ),
  'after the end': PLAIN + b'more',
}
# Not read, with errors of libpng.
DAMAGED = {
  'checksum': altered(PLAIN, 100),
  'pixels': file(
    PHOTO_HEADER, chunk(b'IDAT', altered(zlib.compress(rows(PHOTO)), 100))
  ),
  'few pixels': file(PHOTO_HEADER, pixels(rows(PHOTO)[:-1])),
  'no pixels': file(PHOTO_HEADER),
  'filter': file(PHOTO_HEADER, pixels(b'\5' + rows(PHOTO)[1:])),
  'unknown chunk': photo_with(chunk(b'ABCD', b'')),
  'depth': file(header(32, 24, 3), PHOTO_PIXELS),
  'color type': file(header(32, 24, 8, 5), PHOTO_PIXELS),
  'compression': file(header(32, 24, 8, 2, 1, 0, 0), PHOTO_PIXELS),
  'interlace': file(header(32, 24, 8, 2, 0, 0, 2), PHOTO_PIXELS),
  'width': file(header(2_000_000, 1), PHOTO_PIXELS),
  'no palette': file(header(4, 4, 4, 3), pixels(bytes(12))),
  'no end': png.MAGIC + PHOTO_HEADER + PHOTO_PIXELS,
}


@pytest.mark.parametrize('kind', IMPERFECT)
def test_imperfect_files_are_read(kind):
  np.testing.assert_array_equal(images.decode(IMPERFECT[kind]), PHOTO)


@pytest.mark.parametrize('kind', DAMAGED)
def test_damaged_files_are_not_read(kind):
  assert png.rewrite(DAMAGED[kind]) is None
  with pytest.raises(images.DecodeError, match='damaged PNG|truncated PNG'):
    images.decode(DAMAGED[kind])


def test_nothing_is_printed(capfd):
  for data in [*IMPERFECT.values(), *DAMAGED.values()]:
    try:
      images.decode(data)
    except images.DecodeError:
      pass
  assert capfd.readouterr() == ('', '')
  # This test can see what libpng prints.
  cv2.imdecode(np.frombuffer(IMPERFECT['text'], np.uint8), cv2.IMREAD_UNCHANGED)
  assert 'libpng warning' in capfd.readouterr().err


def test_nothing_is_printed_by_the_command(tmp_path):
  for label in 'ab':
    (tmp_path / 'images' / label).mkdir(parents=True)
    for number, data in enumerate([*IMPERFECT.values(), *DAMAGED.values()]):
      (tmp_path / 'images' / label / f'{number}.png').write_bytes(data)
  end = subprocess.run(
    [sys.executable, '-m', 'nfnets.data', f'folder:{tmp_path}/images'],
    capture_output=True,
    text=True,
    cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
  )
  assert (end.returncode, end.stderr) == (0, '')
  assert end.stdout.count('damaged PNG') == 2 * (len(DAMAGED) - 1)


@pytest.mark.parametrize('transparent', [b'', b'\0\x80', bytes(range(16))])
def test_palettes(transparent):
  packed = INDICES[:, ::2] << 4 | INDICES[:, 1::2]
  chunks = [chunk(b'PLTE', COLORS.tobytes())]
  if transparent:
    chunks.append(chunk(b'tRNS', transparent))
  image = images.decode(file(header(4, 4, 4, 3), *chunks, pixels(rows(packed))))
  alpha = np.full(16, 255)
  alpha[: len(transparent)] = [*transparent]
  over_white = COLORS * (alpha / 255)[:, None] + 255 - alpha[:, None]
  assert np.abs(image.reshape(16, 3) - over_white).max() <= 0.5


def test_palette_with_fewer_colors_than_pixels_use():
  few = chunk(b'PLTE', COLORS[:10].tobytes())
  data = file(header(4, 4, 8, 3), few, pixels(rows(INDICES)))
  image = images.decode(data).reshape(16, 3)
  np.testing.assert_array_equal(image[:10], COLORS[:10])
  assert not image[10:].any()


@pytest.mark.parametrize('size', [(24, 32), (1, 1), (3, 5), (8, 2)])
def test_interlaced_files(size):
  image = PHOTO[: size[0], : size[1]]
  data = b''.join(
    rows(image[top::down, left::right])
    for top, down, left, right in png._PASSES
    if image[top::down, left::right].size
  )
  interlaced = file(header(*size[::-1], 8, 2, 0, 0, 1), pixels(data))
  np.testing.assert_array_equal(images.decode(interlaced), image)


@pytest.mark.parametrize('color, depth', [(0, 1), (0, 16), (4, 8), (6, 16)])
def test_other_kinds_are_as_opencv_reads_them(color, depth):
  channels = {0: 1, 4: 2, 6: 4}[color]
  row = -(-channels * depth * 32 // 8)
  content = np.random.default_rng(0).integers(0, 256, (24, row), np.uint8)
  data = file(header(32, 24, depth, color), pixels(rows(content)))
  encoded = (np.frombuffer(x, np.uint8) for x in (data, png.rewrite(data)))
  first, second = (cv2.imdecode(x, cv2.IMREAD_UNCHANGED) for x in encoded)
  np.testing.assert_array_equal(first, second)


def test_a_small_file_cannot_inflate_to_gigabytes():
  bomb = file(header(2, 2), pixels(bytes(10**7)))
  assert len(bomb) < 20_000
  assert len(png.rewrite(bomb)) < 200


def test_pixels_may_need_several_chunks(monkeypatch):
  monkeypatch.setattr(png, '_MAX_CHUNK', 1000)
  assert png.rewrite(PLAIN).count(b'IDAT') == 3
  np.testing.assert_array_equal(images.decode(PLAIN), PHOTO)


@pytest.mark.parametrize('kind', [b'IHDR', b'tEXt', b'IDAT', b'IEND'])
def test_a_chunk_beyond_the_end_does_not_reach_opencv(monkeypatch, kind):
  """OpenCV allocates a chunk's length, up to 2 GB, before it reads it."""
  data = bytearray(photo_with(chunk(b'tEXt', b'Title\0none')))
  assert png.rewrite(bytes(data) + b'trailing')
  at = data.index(kind) - 4
  data[at : at + 4] = struct.pack('>I', 2**31 - 1)
  monkeypatch.setattr(images.cv2, 'imdecode', None)
  with pytest.raises(images.DecodeError, match='PNG'):
    images.decode(bytes(data))
