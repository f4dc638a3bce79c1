import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from nfnets.data import images
from tests.data import pictures, test_image_size


def pil_bytes(image, kind, **options):
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


def pil_photograph():
  return Image.fromarray(pictures.photograph())


def mean_difference(image, expected):
  return np.abs(image.astype(int) - expected).mean()


LOSSLESS = {
  'png': ('PNG', {}),
  'bmp': ('BMP', {}),
  'webp': ('WEBP', {'lossless': True}),
  'tiff': ('TIFF', {}),
}


@pytest.mark.parametrize('kind', LOSSLESS)
def test_lossless_formats_keep_every_pixel(kind):
  name, options = LOSSLESS[kind]
  image = images.decode(pil_bytes(pil_photograph(), name, **options))
  assert image.dtype == np.uint8
  np.testing.assert_array_equal(image, pictures.photograph())


@pytest.mark.parametrize('progressive', [False, True])
def test_jpeg_against_pillow(progressive):
  data = pil_bytes(
    pil_photograph(), 'JPEG', quality=90, progressive=progressive
  )
  expected = np.asarray(Image.open(io.BytesIO(data)))
  assert mean_difference(images.decode(data), expected) < 0.1


@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_gray_becomes_three_equal_channels(kind):
  gray = pil_photograph().convert('L')
  options = {'quality': 95} if kind == 'JPEG' else {}
  image = images.decode(pil_bytes(gray, kind, **options))
  assert image.shape == (96, 128, 3)
  assert (image == image[..., :1]).all()
  assert mean_difference(image[..., 0], np.asarray(gray)) < 3


def test_one_bit_and_palette_become_rgb():
  for mode in ('1', 'P'):
    reduced = pil_photograph().convert(mode)
    expected = np.asarray(reduced.convert('RGB'))
    image = images.decode(pil_bytes(reduced, 'PNG'))
    np.testing.assert_array_equal(image, expected)


def test_cmyk_jpeg_becomes_rgb():
  data = pil_bytes(pil_photograph().convert('CMYK'), 'JPEG', quality=95)
  assert mean_difference(images.decode(data), pictures.photograph()) < 4


@pytest.mark.parametrize('kind', ['PNG', 'TIFF'])
def test_sixteen_bits_are_scaled_to_eight(kind):
  gray = np.asarray(pil_photograph().convert('L'))
  data = pil_bytes(Image.fromarray(gray.astype(np.uint16) * 257), kind)
  assert np.abs(images.decode(data)[..., 0].astype(int) - gray).max() <= 1


def test_sixteen_bits_are_rounded():
  stored = np.array([[0, 128, 129, 65406, 65535]], np.uint16)
  data = cv2.imencode('.png', stored)[1].tobytes()
  assert images.decode(data)[0, :, 0].tolist() == [0, 0, 1, 254, 255]


@pytest.mark.parametrize('ending', ['.png', '.webp'])
def test_transparency_is_composited_over_white(ending):
  color = np.full((4, 3, 3), [200, 100, 0], np.uint8)
  alpha = np.array([0, 51, 255], np.uint8)[None, :, None].repeat(4, 0)
  options = [cv2.IMWRITE_WEBP_QUALITY, 101] if ending == '.webp' else []
  rgba = np.concatenate([color[..., ::-1], alpha], axis=-1)
  data = cv2.imencode(ending, rgba, options)[1].tobytes()
  row = images.decode(data)[0].tolist()
  assert row[0] == [255, 255, 255]
  assert row[1] == [244, 224, 204]  # 255 - (255 - color) * 51 / 255.
  assert row[2] == [200, 100, 0]


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
def test_orientation_tags_are_ignored(kind):
  exif = Image.Exif()
  exif[0x112] = 6  # Rotates by 90 degrees.
  data = pil_bytes(pil_photograph(), kind, exif=exif.tobytes())
  assert images.decode(data).shape == (96, 128, 3)


@pytest.mark.parametrize('kind', ['GIF', 'WEBP', 'PNG'])
def test_first_frame_of_an_animation(kind):
  first, second = Image.new('RGB', (8, 8), 'red'), Image.new('RGB', (8, 8))
  data = pil_bytes(first, kind, save_all=True, append_images=[second])
  assert images.decode(data)[4, 4].tolist()[0] > 230


def test_arrays_are_returned_unchanged():
  image = pictures.photograph()
  assert images.decode(image) is image


@pytest.mark.parametrize('ending', ['.jpg', '.png', '.webp'])
def test_damaged_files_are_errors(ending):
  data = pictures.encode(pictures.photograph(), ending)
  for name, bad in pictures.broken(data).items():
    with pytest.raises(images.DecodeError) as caught:
      images.decode(bad)
    assert str(caught.value), name


def test_reasons():
  data = pictures.encode(pictures.photograph())
  for bad, reason in (
    (b'', 'empty file'),
    (data[:500], 'truncated JPEG'),
    (bytes(99), 'only zero bytes'),
    (b'hello world', '^not an image, or a damaged one$'),
    (pictures.encode(pictures.photograph(), '.png')[:900], 'truncated PNG'),
  ):
    with pytest.raises(images.DecodeError, match=reason):
      images.decode(bad)


def test_float_pixels_are_an_error():
  file = cv2.imencode('.tiff', np.zeros((4, 4), np.float32))[1].tobytes()
  with pytest.raises(images.DecodeError):
    images.decode(file)


@pytest.mark.parametrize('progressive', [False, True])
def test_jpeg_size_is_in_the_header(progressive):
  exif = Image.Exif()
  exif[0x10E] = 'long ' * 200
  data = pil_bytes(
    pil_photograph(), 'JPEG', exif=exif.tobytes(), progressive=progressive
  )
  assert images.jpeg_size(data) == (96, 128)


def test_jpeg_size_of_other_bytes_is_none():
  data = pictures.encode(pictures.photograph())
  others = [b'', data[:30], b'\xff\xd8' + bytes(50), pictures.photograph()]
  others.append(pictures.encode(pictures.photograph(), '.png'))
  assert [images.jpeg_size(other) for other in others] == [None] * 5
  start = data.index(b'\xff\xc0') + 5
  no_height = data[:start] + struct.pack('>H', 0) + data[start + 2 :]
  assert images.jpeg_size(no_height) is None


@pytest.mark.parametrize('reduction', [2, 4, 8])
def test_reduced_decoding_averages_blocks(reduction):
  large = pictures.photograph(240, 320)
  small = images.decode(pictures.encode(large, quality=98), reduction)
  height, width = 240 // reduction, 320 // reduction
  blocks = large.reshape(height, reduction, width, reduction, 3).mean((1, 3))
  assert small.shape == (height, width, 3)
  # Channels in the right order, and close to the mean of each block.
  assert mean_difference(small, blocks) < 6


def test_jpeg_round_trip_keeps_the_channel_order():
  image = pictures.photograph()
  decoded = images.decode(images.encode_jpeg(image, 100))
  difference = np.abs(decoded.astype(int) - image.astype(int))
  assert difference.mean() < 4
  swapped = np.abs(decoded[..., ::-1].astype(int) - image.astype(int))
  assert swapped.mean() > 2 * difference.mean()


@pytest.mark.parametrize('kind', test_image_size.CLAIMS)
def test_too_many_pixels_are_not_decoded(kind, monkeypatch):
  def imdecode(*_):
    raise AssertionError('decoded')

  monkeypatch.setattr(cv2, 'imdecode', imdecode)
  match = '30000 x 31000 pixels, more than max_pixels=100000000'
  with pytest.raises(images.DecodeError, match=match):
    images.decode(test_image_size.CLAIMS[kind])


@pytest.mark.parametrize('ending', ['.jpg', '.png', '.tiff'])
def test_limit_of_pixels_is_inclusive(ending):
  data = pictures.encode(pictures.photograph(), ending)
  assert images.decode(data, max_pixels=96 * 128).shape == (96, 128, 3)
  with pytest.raises(images.DecodeError, match='128 x 96 pixels'):
    images.decode(data, max_pixels=96 * 128 - 1)


def test_image_that_does_not_fit_in_memory(monkeypatch):
  def imdecode(*_):
    raise MemoryError

  monkeypatch.setattr(cv2, 'imdecode', imdecode)
  data = pictures.encode(pictures.photograph())
  with pytest.raises(images.DecodeError, match='pixels do not fit in memory'):
    images.decode(data)
