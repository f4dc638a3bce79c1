"""A trained network in use: class probabilities for image files."""

import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from nfnets import errors, files, models, weights
from nfnets.augment import preprocess
from nfnets.data import crops, unreadable
from nfnets.data import source as source_lib
from nfnets.models import registry

TOP = 5
"""Number of classes in a prediction; fewer if the network has fewer."""


class Guess(NamedTuple):
  """One of the most likely classes of an image."""

  label: int  # From 0.
  name: str
  probability: float


class Prediction(NamedTuple):
  """The most likely classes of an image, best first."""

  image: str
  guesses: tuple[Guess, ...]


def preprocess_image(
  image: str | os.PathLike | bytes | np.ndarray, loaded: weights.Loaded
) -> np.ndarray:
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
  if isinstance(image, bytes | np.ndarray):
    preset = crops.check_preset(
      loaded.eval_preset, config.crop_pct, config.crop_mode
    )
    what = 'the image'
    crop = functools.partial(
      crops.eval_crop, image, out, preset, config.crop_pct, config.crop_mode
    )
  else:
    path = files.user_path(image, 'image')
    what, crop = (
      str(path),
      functools.partial(_make_read_into(loaded), path, out),
    )
  try:
    with unreadable.identified(what):
      crop()
  except source_lib.UnreadableError as error:
    raise errors.UserError(f'{what}: cannot be read: {error.reason}') from None
  return np.asarray(preprocess.normalize(out, config.mean, config.std))


def predict(
  loaded: weights.Loaded,
  paths: Iterable[str | os.PathLike],
  batch_size: int,
  on_unreadable: Callable[[pathlib.Path, str], None],
) -> Iterator[Prediction]:
  """Predicts the classes of image files.

  Images are decoded and cropped as in an evaluation, to uint8[S, S, 3] with the
  model's test size S. The network runs in float32.

  Args:
    loaded: the network, from `weights.load_model`; must have a classifier.
    paths: image files; `~` and `$VARIABLES` are expanded.
    batch_size: number of images per forward pass, at least 1.
    on_unreadable: called with the path of each unreadable file, and the reason;
      the file is then skipped.

  Yields:
    A prediction per readable file, in the order of `paths`.

  Raises:
    UserError: the network's evaluation preset or crop settings are unknown, or
      a path is a URL.
  """
  size = loaded.model.config.test_size
  model, params = models.for_inference(loaded.model, loaded.params)
  probabilities = _make_probabilities(model)
  params, state = jax.device_put((params, loaded.state))
  read_into = _make_read_into(loaded)
  batch = np.zeros((batch_size, size, size, 3), np.uint8)
  names: list[str] = []

  def flush() -> Iterator[Prediction]:
    rows = np.asarray(probabilities(params, state, batch))
    for name, row in zip(names, rows, strict=False):
      yield Prediction(name, _best(row, loaded.class_names))
    names.clear()

  for path in (files.user_path(path, 'image') for path in paths):
    try:
      read_into(path, batch[len(names)])
    except source_lib.UnreadableError as error:
      on_unreadable(path, error.reason)
      continue
    names.append(str(path))
    if len(names) == batch_size:
      yield from flush()
  if names:
    yield from flush()


def _make_probabilities(
  model: models.Model,
) -> Callable[[registry.Params, registry.State, np.ndarray], jax.Array]:
  """Returns (params, state, uint8[B, S, S, 3]) -> float32[B, num_classes]."""
  config = model.config

  def probabilities(
    params: registry.Params, state: registry.State, images: jax.Array
  ) -> jax.Array:
    inputs = preprocess.normalize(images, config.mean, config.std)
    (logits, _), _ = model.apply(params, state, None, inputs, False)
    return jax.nn.softmax(logits)

  return jax.jit(probabilities)


def _make_read_into(
  loaded: weights.Loaded,
) -> Callable[[pathlib.Path, np.ndarray], None]:
  """Returns a function that writes a file's evaluation crop into an array."""
  config = loaded.model.config
  preset = crops.check_preset(
    loaded.eval_preset, config.crop_pct, config.crop_mode
  )

  def read_into(path: pathlib.Path, out: np.ndarray) -> None:
    with unreadable.identified(str(path)):
      with files.open_regular(path) as file:
        data = file.read()
      crops.eval_crop(data, out, preset, config.crop_pct, config.crop_mode)

  return read_into


def _best(row: np.ndarray, names: Sequence[str]) -> tuple[Guess, ...]:
  # A stable sort orders ties in the same way on every machine.
  order = (-row).argsort(kind='stable')[:TOP].tolist()
  return tuple(Guess(i, names[i], float(row[i])) for i in order)
