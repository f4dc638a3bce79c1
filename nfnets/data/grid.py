"""Writes a sheet of captioned images for inspection."""

import math
import os
from collections.abc import Sequence

import cv2
import numpy as np

from nfnets import errors

_SMALLEST_CELL = 112
_MARGIN = 4
_CAPTION_HEIGHT = 18
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4
_GRAY, _BLACK = 235, (0, 0, 0)


def write_grid(
  path: str | os.PathLike, images: np.ndarray, captions: Sequence[str]
) -> None:
  """Writes images as a PNG, in a grid that is about square.

  Args:
    path: the PNG to write.
    images: uint8[N, H, W, 3]; small ones are enlarged by a whole number.
    captions: N lines, each cut off at the width of its image.

  Raises:
    ValueError: there are no images, or not one caption per image.
    UserError: the file cannot be written.
  """
  if not len(images) or len(images) != len(captions):
    raise ValueError(f'{len(images)} images and {len(captions)} captions')
  columns = math.ceil(math.sqrt(len(images)))
  cells = [_cell(*pair) for pair in zip(images, captions, strict=True)]
  blank = np.full_like(cells[0], _GRAY)
  cells += [blank] * (-len(cells) % columns)
  rows = [
    np.concatenate(cells[start : start + columns], axis=1)
    for start in range(0, len(cells), columns)
  ]
  sheet = cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR)
  encoded = cv2.imencode('.png', sheet)[1].tobytes()
  try:
    with open(path, 'wb') as file:
      file.write(encoded)
  except OSError as error:
    raise errors.UserError(
      f'{os.fspath(path)}: cannot be written: {error.strerror}'
    ) from error


def _cell(image: np.ndarray, caption: str) -> np.ndarray:
  """Returns an image with a margin around it and its caption below."""
  times = math.ceil(_SMALLEST_CELL / min(image.shape[:2]))
  image = image.repeat(times, axis=0).repeat(times, axis=1)
  height, width = image.shape[:2]
  shape = (height + _CAPTION_HEIGHT + 2 * _MARGIN, width + 2 * _MARGIN, 3)
  cell = np.full(shape, _GRAY, np.uint8)
  cell[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width] = image
  # OpenCV's fonts have only ASCII letters, and long text would cover the next
  # cell.
  text = caption.encode('ascii', 'replace').decode()
  while text and _text_width(text) > width:
    text = text[:-1]
  at = (_MARGIN, height + _MARGIN + 13)
  cv2.putText(cell, text, at, _FONT, _FONT_SCALE, _BLACK, 1, cv2.LINE_AA)
  return cell


def _text_width(text: str) -> int:
  return cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0]
