"""An image to a network's input, exactly as in an evaluation."""

import functools
import os
import pathlib
from typing import TypeAlias

import numpy as np

from nfnets import errors, files, weights
from nfnets.augment import preprocess
from nfnets.data import crops, unreadable
from nfnets.data import source as source_lib

Image: TypeAlias = str | os.PathLike | bytes | np.ndarray
"""A path, an encoded image, or uint8[H, W, 3] in RGB."""


def preprocess_image(image: Image, loaded: weights.Loaded) -> np.ndarray:
  """Returns a network's input for an image, exactly as an evaluation does.

  Args:
    image: a path, an encoded image, or uint8[H, W, 3] in RGB.
    loaded: the network, from `weights.load_model`. Its configuration and
      evaluation preset determine size, crop, mean and standard deviation.

  Returns:
    float32[S, S, 3] with the model's test size S, normalized.

  Raises:
    UserError: the image cannot be read, or the evaluation preset is unknown.
  """
  config = loaded.model.config
  out = np.zeros((config.test_size, config.test_size, 3), np.uint8)
  try:
    Cropper(loaded).crop(image, out)
  except source_lib.UnreadableError as error:
    name = name_of(image)
    raise errors.UserError(f'{name}: cannot be read: {error.reason}') from None
  return np.asarray(preprocess.normalize(out, config.mean, config.std))


def name_of(image: Image) -> str:
  """Returns an image's path, or 'image' for one in memory."""
  if isinstance(image, bytes | np.ndarray):
    return 'image'
  return os.fspath(image)


class Cropper:
  """Reads images and crops them for a network."""

  def __init__(self, loaded: weights.Loaded) -> None:
    """Checks the network's crop settings.

    Raises:
      UserError: its evaluation preset or crop settings are unknown.
    """
    config = loaded.model.config
    preset = crops.check_preset(
      loaded.eval_preset, config.crop_pct, config.crop_mode
    )
    self._crop = functools.partial(
      crops.eval_crop,
      preset=preset,
      crop_pct=config.crop_pct,
      crop_mode=config.crop_mode,
    )

  def crop(self, image: Image, out: np.ndarray) -> None:
    """Writes an image's evaluation crop into an array.

    Args:
      image: a path, in which `~` and `$VARIABLES` are expanded, an encoded
        image, or uint8[H, W, 3] in RGB.
      out: uint8[S, S, 3] with the model's test size S.

    Raises:
      UserError: the path is a URL, or the array is of another form.
      UnreadableError: the image cannot be read.
    """
    if isinstance(image, np.ndarray):
      _check_array(image)
    if isinstance(image, bytes | np.ndarray):
      with unreadable.identified(name_of(image)):
        self._crop(image, out)
      return
    path = files.user_path(image, 'image')
    with unreadable.identified(str(path)):
      self._crop(_read(path), out)


def _read(path: pathlib.Path) -> bytes:
  with files.open_regular(path) as file:
    return file.read()


def _check_array(image: np.ndarray) -> None:
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise errors.UserError(
      f'the image is {image.dtype}{list(image.shape)}: pass uint8[H, W, 3] in'
      ' RGB'
    )
