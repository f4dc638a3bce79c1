"""Small real pictures for the tests, and damaged files."""

import functools

import cv2
import numpy as np
from sklearn import datasets

NUM_DIGITS = 10


@functools.cache
def photograph(height=96, width=128):
  """Returns scikit-learn's photo of a temple, uint8[height, width, 3]."""
  image = datasets.load_sample_images().images[0]
  return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


@functools.cache
def _digits():
  return datasets.load_digits()


def digit(number):
  """Returns handwritten digit `number`, uint8[32, 32, 3], and its class."""
  gray = np.round(_digits().images[number] * (255 / 16)).astype(np.uint8)
  large = cv2.resize(gray, (32, 32), interpolation=cv2.INTER_LINEAR)
  return np.repeat(large[..., None], 3, -1), int(_digits().target[number])


def encode(image, ending='.jpg', quality=95):
  """Encodes uint8[H, W, 3] or [H, W] with OpenCV."""
  if image.ndim == 3:
    code = cv2.COLOR_RGBA2BGRA if image.shape[-1] == 4 else cv2.COLOR_RGB2BGR
    image = cv2.cvtColor(image, code)
  options = [cv2.IMWRITE_JPEG_QUALITY, quality] if ending == '.jpg' else []
  return cv2.imencode(ending, image, options)[1].tobytes()


def broken(data):
  """Returns damaged versions of a JPEG's or PNG's bytes, by kind."""
  return {
    'empty': b'',
    'zeros': bytes(len(data)),
    'header': data[:12],
    'half': data[: len(data) // 2],
    'end': data[:-30],
    'text': b'404 Not Found: this is not an image\n',
    'html': b'<html><body>denied</body></html>',
    'noise': np.random.default_rng(0).bytes(300),
    'shifted': b'\0' + data,
    'magic': data[:3] + bytes(200),
  }


def write_class_folders(root, numbers, ending='.png'):
  """Writes digits as root/CLASS/NNNN.ending; returns the paths."""
  paths = []
  for number in numbers:
    image, label = digit(number)
    path = root / str(label) / f'{number:04d}{ending}'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(image, ending.lower()))
    paths.append(path)
  return paths
