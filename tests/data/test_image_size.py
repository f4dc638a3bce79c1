"""Sizes in headers, against Pillow's files and hostile ones."""

import io
import random
import struct
import time

import numpy as np
import pytest
from PIL import Image

from nfnets.data import image_size, images


def _encode(kind, mode='RGB', size=(37, 21), **options):
  file = io.BytesIO()
  Image.new(mode, size).save(file, kind, **options)
  return file.getvalue()


_FILES = {
  'jpeg': _encode('JPEG'),
  'progressive': _encode('JPEG', progressive=True),
  'jpeg with segments': _encode(
    'JPEG', icc_profile=bytes(70_000), comment=b'\xff\xc0' * 20
  ),
  'png': _encode('PNG'),
  'png 16': _encode('PNG', 'I;16'),
  'gif': _encode('GIF', 'P'),
  'bmp': _encode('BMP'),
  'webp': _encode('WEBP'),
  'webp lossless': _encode('WEBP', lossless=True),
  'webp alpha': _encode('WEBP', 'RGBA'),
  'webp with profile': _encode('WEBP', icc_profile=bytes(200)),
  'tiff': _encode('TIFF'),
  'tiff lzw': _encode('TIFF', compression='tiff_lzw'),
  'bigtiff': _encode('TIFF', big_tiff=True),
}


def _tiff(tags, order='<', count=None):
  """Builds a TIFF file of one directory from (tag, type, value)."""
  magic = b'II*\0' if order == '<' else b'MM\0*'
  entries = b''.join(
    struct.pack(order + 'HHII', tag, kind, 1, value)
    if kind == 4
    else struct.pack(order + 'HHIHxx', tag, kind, 1, value)
    for tag, kind, value in tags
  )
  number = len(tags) if count is None else count
  return magic + struct.pack(order + 'IH', 8, number) + entries + bytes(4)


def _gif(width, height):
  return (
    b'GIF89a' + struct.pack('<HH', width, height) + b'\xf0\0\0' + bytes(6)
    + b',' + bytes(4) + b'\1\0\1\0\0\2\2D\1\0;'
  )  # fmt: skip


def _png(width, height):
  chunk = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  return b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + chunk + bytes(4)


# Headers that claim 30000 x 31000 pixels.
CLAIMS = {
  'jpeg': b'\xff\xd8\xff\xc0\x00\x11\x08'
  + struct.pack('>HH', 31000, 30000)
  + b'\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00\xff\xda' + bytes(20),
  'png': _png(30000, 31000),
  'gif': _gif(30000, 31000),
  'bmp': b'BM' + bytes(12) + struct.pack('<IiiHHI', 40, 30000, 31000, 1, 24, 0)
  + bytes(20),
  'bmp top down': b'BM' + bytes(12)
  + struct.pack('<IiiHHI', 40, 30000, -31000, 1, 24, 0) + bytes(20),
  'bmp os/2': b'BM' + bytes(12)
  + struct.pack('<IHHHH', 12, 30000, 31000, 1, 24),
  'webp extended': b'RIFF' + struct.pack('<I', 22) + b'WEBPVP8X'
  + struct.pack('<II', 10, 0) + (29999).to_bytes(3, 'little')
  + (30999).to_bytes(3, 'little'),
  'tiff': _tiff([(256, 3, 30000), (257, 3, 31000)]),
  'tiff long': _tiff([(256, 4, 30000), (257, 4, 31000)]),
  'tiff big-endian': _tiff([(256, 3, 30000), (257, 4, 31000)], '>'),
  'tiff tile': _tiff(
    [(256, 3, 1), (257, 3, 1), (322, 3, 30000), (323, 3, 31000)]
  ),
  'tiff twice': _tiff(
    [(256, 4, 30000), (256, 4, 1), (257, 4, 1), (257, 4, 31000)]
  ),
}  # fmt: skip


@pytest.mark.parametrize('kind', _FILES)
def test_sizes_of_pillow_files(kind):
  assert image_size.read(_FILES[kind]) == (21, 37)
  assert images.decode(_FILES[kind]).shape == (21, 37, 3)


@pytest.mark.parametrize('kind', CLAIMS)
def test_claimed_sizes(kind):
  assert image_size.read(CLAIMS[kind]) == (31000, 30000)


@pytest.mark.parametrize('kind', _FILES)
def test_truncated_headers_have_no_size(kind):
  data = _FILES[kind]
  for length in range(200):
    assert image_size.read(data[:length]) in (None, (21, 37))


@pytest.mark.parametrize('kind', _FILES)
def test_mutations_never_decode_to_a_larger_image(kind):
  rng = random.Random(kind)
  for _ in range(100):
    data = bytearray(_FILES[kind])
    for _ in range(rng.choice((1, 2, 4))):
      data[rng.randrange(min(len(data), 400))] = rng.randrange(256)
    try:
      image = images.decode(bytes(data), max_pixels=10**5)
    except images.DecodeError:
      continue
    height, width = image_size.read(bytes(data))
    assert image.shape[0] * image.shape[1] <= height * width


@pytest.mark.parametrize(
  'data',
  [
    b'',
    b'text',
    b'P6 30000 30000 255 ',
    b'RIFF\0\0\0\0WAVEfmt ',
    _png(0, 5),
    _gif(5, 0),
    _tiff([(256, 3, 5)]),
    b'II+\0\x08\0\0\0' + b'\xff' * 8 + bytes(50),  # Offset 2**64 - 1.
    _tiff([(256, 3, 5), (257, 2, 5)]),
    b'\x89PNG\r\n\x1a\n' + bytes(4) + b'IDAT' + bytes(20),
  ],
)
def test_no_size(data):
  assert image_size.read(data) is None


def test_other_formats_of_opencv_are_not_images():
  for kind, reason in (
    ('PPM', 'not an image'),
    ('JPEG2000', 'JPEG 2000, which cannot be read: convert it to JPEG or PNG'),
    ('AVIF', 'AVIF or HEIC, which cannot be read: convert it to JPEG or PNG'),
  ):
    data = _encode(kind, size=(64, 64))
    with pytest.raises(images.DecodeError, match=reason):
      images.decode(data)


@pytest.mark.parametrize(
  'data',
  [
    b'\xff\xd8' + b'\xff\xd0' * 10**6,
    b'\xff\xd8' + b'\xff\0' * 10**6,
    _tiff([], count=2**16 - 1) + bytes(10**6),
    b'II+\0\x08\0\0\0' + struct.pack('<QQ', 16, 2**60) + bytes(10**6),
  ],
)
def test_long_headers_take_no_time(data):
  start = time.process_time()
  assert image_size.read(data) is None
  assert time.process_time() - start < 1


@pytest.mark.parametrize('kind', _FILES)
def test_known_formats(kind):
  assert image_size.is_known(_FILES[kind][:16])


@pytest.mark.parametrize(
  'data',
  [b'', b'BMW and Mercedes', b'RIFF\0\0\0\0WAVEfmt ', b'P6 3 3 255', b'id'],
)
def test_unknown_formats(data):
  assert not image_size.is_known(data)


def test_size_is_a_pair():
  size = image_size.read(_FILES['png'])
  assert (size.height, size.width) == (21, 37)
  assert np.prod(size) == 777
