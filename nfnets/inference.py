"""A trained network in use: files to class probabilities, and its export."""

import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import export

from nfnets import models, weights
from nfnets.augment import preprocess
from nfnets.data import crops, images
from nfnets.layers import convolution
from nfnets.models import registry

TOP = 5


class Guess(NamedTuple):
  """One of the likeliest classes of an image."""

  label: int  # from 0
  name: str
  probability: float


class Prediction(NamedTuple):
  """The likeliest classes of an image, best first."""

  image: str
  guesses: tuple[Guess, ...]


def predict(
  loaded: weights.Loaded,
  paths: Iterable[pathlib.Path],
  batch_size: int,
  on_unreadable: Callable[[pathlib.Path, str], None],
) -> Iterator[Prediction]:
  """Predicts the classes of image files.

  Args:
    loaded: the network; its config and preset say how images are prepared.
    paths: image files.
    batch_size: images that go through the network together.
    on_unreadable: called with each file that is skipped, and why.

  Yields:
    A prediction per readable file, in their order.
  """
  size = loaded.model.config.test_size
  model, params = models.for_inference(loaded.model, loaded.params)
  probabilities = _make_probabilities(model)
  weights_on_device = jax.device_put((params, loaded.state))
  batch = np.zeros((batch_size, size, size, 3), np.uint8)
  names: list[str] = []

  def flush() -> Iterator[Prediction]:
    rows = np.asarray(probabilities(*weights_on_device, batch))
    for name, row in zip(names, rows, strict=False):
      yield Prediction(name, _best(row, loaded.class_names))
    names.clear()

  for path in paths:
    reason = _read_into(path, batch[len(names)], loaded)
    if reason:
      on_unreadable(path, reason)
      continue
    names.append(str(path))
    if len(names) == batch_size:
      yield from flush()
  if names:
    yield from flush()


def _make_probabilities(model: models.Model) -> Callable[..., np.ndarray]:
  """(params, state, uint8[B, S, S, 3]) -> float32[B, num_classes]."""
  config = model.config

  def probabilities(
    params: registry.Params, state: registry.State, images: jax.Array
  ) -> jax.Array:
    inputs = preprocess.normalize(images, config.mean, config.std)
    (logits, _), _ = model.apply(params, state, None, inputs, False)
    return jax.nn.softmax(logits)

  return jax.jit(probabilities)


def _read_into(
  path: pathlib.Path, out: np.ndarray, loaded: weights.Loaded
) -> str | None:
  """Writes the image, cut to size, into `out`; returns what is wrong."""
  config = loaded.model.config
  try:
    image = images.decode(path.read_bytes())
  except OSError as error:
    return error.strerror or type(error).__name__
  except images.DecodeError as error:
    return str(error)
  crops.eval_crop(
    image, out, loaded.eval_preset, config.crop_pct, config.crop_mode
  )
  return None


def _best(row: np.ndarray, names: Sequence[str]) -> tuple[Guess, ...]:
  # Stable, so that ties come out the same on every machine.
  order = (-row).argsort(kind='stable')[:TOP].tolist()
  return tuple(Guess(i, names[i], float(row[i])) for i in order)


def export_program(loaded: weights.Loaded) -> bytes:
  """The network as a portable program, weights included.

  Args:
    loaded: the network.

  Returns:
    What `jax.export.deserialize` takes; its `call` maps normalised images
    float32[b, S, S, 3], S the model's test size and b any, to logits
    float32[b, num_classes], on cpu, cuda and tpu.
  """
  size = loaded.model.config.test_size
  (batch,) = export.symbolic_shape('b')
  images = jax.ShapeDtypeStruct((batch, size, size, 3), np.float32)

  def logits(inputs: jax.Array) -> jax.Array:
    (outputs, _), _ = loaded.model.apply(
      loaded.params, loaded.state, None, inputs, False
    )
    return outputs

  exporting = export.export(jax.jit(logits), platforms=('cpu', 'cuda', 'tpu'))
  # How fast a platform's own lowering is depends on the batch, left open here.
  with convolution.lowering('plain'):
    return bytes(exporting(images).serialize())
