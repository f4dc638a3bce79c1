"""A trained network that knows its classes and its preprocessing."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import NamedTuple

import jax
import numpy as np

from nfnets import errors, models, weights
from nfnets.augment import preprocess
from nfnets.data import folders
from nfnets.data import source as source_lib
from nfnets.inference import images as images_lib
from nfnets.models import registry
from nfnets.runtime import cores

Images = images_lib.Image | Sequence[images_lib.Image]
# Called with the name of each unreadable image, and the reason.
OnUnreadable = Callable[[str, str], None]

PROBABILITIES = 'probabilities'
CROP = 'crop'  # uint8[S, S, 3], what the network sees


class Guess(NamedTuple):
  """One of the most likely classes of an image."""

  label: int  # From 0.
  name: str
  probability: float


class Predictions(NamedTuple):
  """What a network predicts for N images."""

  images: tuple[str, ...]  # paths; 'image' for images in memory
  probabilities: np.ndarray  # float32[N, num_classes]
  class_names: tuple[str, ...]

  @property
  def classes(self) -> list[str]:
    """The most likely class of each image."""
    return [self.class_names[i] for i in self.probabilities.argmax(1)]

  def top(self, count: int = 5) -> list[tuple[Guess, ...]]:
    """Returns the most likely classes of each image, best first."""
    return [best(row, self.class_names, count) for row in self.probabilities]


class Network:
  """A trained network in use.

  Attributes:
    model: the network, see `models.create_model`.
    params: its parameters, float32.
    state: its state, such as the statistics of batch normalization.
    class_names: one name per class.
  """

  def __init__(self, loaded: weights.Loaded) -> None:
    """Prepares a network for use; compiles nothing.

    Args:
      loaded: from `weights.load_model` or `runs.load`.

    Raises:
      UserError: its evaluation preset or crop settings are unknown.
    """
    self.model, self.params, self.state = loaded[:3]
    self.class_names = loaded.class_names
    self._loaded = loaded
    self._cropper = images_lib.Cropper(loaded)
    folded, params = models.for_inference(loaded.model, loaded.params)
    self._folded = folded
    self._arrays = jax.device_put((params, loaded.state))
    self._programs: dict[tuple[str, ...], _Program] = {}

  def preprocess(self, image: images_lib.Image) -> np.ndarray:
    """Returns the input for an image, see `images.preprocess_image`."""
    return images_lib.preprocess_image(image, self._loaded)

  def predict(self, images: Images, batch_size: int = 16) -> Predictions:
    """Predicts the classes of images.

    Args:
      images: one or more paths, encoded images or arrays uint8[H, W, 3] in RGB.
        A folder stands for all images in it and its subfolders.
      batch_size: number of images per forward pass.

    Raises:
      UserError: an image cannot be read, or the network has no classifier.
    """
    names, outputs = self._collect(images, (PROBABILITIES,), batch_size)
    return Predictions(names, outputs[PROBABILITIES], self.class_names)

  def embed(self, images: Images, batch_size: int = 16) -> np.ndarray:
    """Returns the pooled features of images, float32[N, C]; see `predict`."""
    return self._collect(images, ('pool',), batch_size)[1]['pool']

  def features(
    self, images: Images, strides: Sequence[int] = (4, 8, 16, 32)
  ) -> dict[int, np.ndarray]:
    """Returns feature maps of images.

    Args:
      images: see `predict`.
      strides: pixels of the input per position of a map. Networks have 2, 4, 8,
        16 and 32, those with a stem for small images 1, 2, 4 and 8.

    Returns:
      {stride: float32[N, S / stride, S / stride, C]}, with sizes rounded up.

    Raises:
      UserError: as `predict`, or the network has no map of this stride.
    """
    outputs = self._collect(images, [f'stride_{s}' for s in strides], 16)[1]
    return {s: outputs[f'stride_{s}'] for s in strides}

  def stream(
    self,
    images: Iterable[images_lib.Image],
    outputs: Sequence[str],
    batch_size: int,
    on_unreadable: OnUnreadable,
  ) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields the name and the outputs of each readable image, in order.

    The crop is always among the outputs. Images are read by several threads and
    cropped as in an evaluation. The network runs in float32. Memory does not
    depend on the number of images.

    Args:
      images: paths, encoded images or arrays uint8[H, W, 3].
      outputs: 'probabilities' and names of endpoints, see `registry.Model`.
      batch_size: number of images per forward pass, at least 1.
      on_unreadable: called with each image that is skipped, and the reason.

    Raises:
      UserError: an output does not exist, or a path is a URL.
    """
    program = self._program(tuple(outputs))
    size = self.model.config.test_size
    with futures.ThreadPoolExecutor(cores.available()) as pool:
      for part in _parts(images, batch_size):
        batch = np.zeros((batch_size, size, size, 3), np.uint8)
        reasons = list(pool.map(self._read, part, batch))
        rows = {k: np.asarray(x) for k, x in program(batch).items()}
        for i, (image, reason) in enumerate(zip(part, reasons, strict=True)):
          name = images_lib.name_of(image)
          if reason:
            on_unreadable(name, reason)
            continue
          found = {key: array[i] for key, array in rows.items()}
          yield name, {CROP: batch[i], **found}

  def _read(self, image: images_lib.Image, out: np.ndarray) -> str | None:
    """Crops an image into `out`; returns the reason if it is unreadable."""
    try:
      self._cropper.crop(image, out)
    except source_lib.UnreadableError as error:
      return error.reason
    return None

  def _collect(
    self, images: Images, outputs: Sequence[str], batch_size: int
  ) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    found = list(_expand(images))
    if not found:
      raise errors.UserError('images is empty: pass at least one image')
    rows = list(
      self.stream(found, outputs, min(batch_size, len(found)), _refuse)
    )
    names, values = zip(*rows, strict=True)
    return names, {key: np.stack([v[key] for v in values]) for key in outputs}

  def _program(self, outputs: tuple[str, ...]) -> '_Program':
    """Returns uint8[B, S, S, 3] -> {output: float32[B, ...]}, compiled once."""
    if outputs not in self._programs:
      self._check(outputs)
      run = jax.jit(functools.partial(_run, self._folded, outputs))
      self._programs[outputs] = functools.partial(run, *self._arrays)
    return self._programs[outputs]

  def _check(self, outputs: tuple[str, ...]) -> None:
    """Checks that the network has these outputs."""
    config = self.model.config
    shape = (1, config.test_size, config.test_size, 3)
    apply = functools.partial(_endpoints, self._folded, *self._arrays)
    known = jax.eval_shape(apply, jax.ShapeDtypeStruct(shape, np.uint8))
    for name in outputs:
      if name not in known:
        raise errors.UserError(
          f'{config.name} has no output {name!r}; it has {", ".join(known)}'
        )


_Program = Callable[[np.ndarray], dict[str, jax.Array]]


def best(
  row: np.ndarray, names: Sequence[str], count: int
) -> tuple[Guess, ...]:
  """Returns the most likely classes, best first.

  Args:
    row: float32[num_classes], the probabilities.
    names: the classes.
    count: number of classes to return.
  """
  # A stable sort orders ties in the same way on every machine.
  order = (-row).argsort(kind='stable')[:count].tolist()
  return tuple(Guess(i, names[i], float(row[i])) for i in order)


def _endpoints(
  model: models.Model,
  params: registry.Params,
  state: registry.State,
  images: jax.Array,
) -> dict[str, jax.Array]:
  """Maps uint8[B, S, S, 3] to all outputs by name."""
  inputs = preprocess.normalize(images, model.config.mean, model.config.std)
  (logits, endpoints), _ = model.apply(params, state, None, inputs, False)
  if not model.config.num_classes:
    return endpoints
  return {PROBABILITIES: jax.nn.softmax(logits), **endpoints}


def _run(
  model: models.Model,
  outputs: Sequence[str],
  params: registry.Params,
  state: registry.State,
  images: jax.Array,
) -> dict[str, jax.Array]:
  found = _endpoints(model, params, state, images)
  return {name: found[name] for name in outputs}


def _expand(images: Images) -> Iterator[images_lib.Image]:
  """Yields the images one by one, those of folders too."""
  if isinstance(images, str | os.PathLike | bytes) or (
    isinstance(images, np.ndarray) and images.ndim < 4
  ):
    images = [images]
  for image in images:
    if isinstance(image, bytes | np.ndarray):
      yield image
    else:
      yield from folders.find_images([image])


def _parts(
  images: Iterable[images_lib.Image], size: int
) -> Iterator[list[images_lib.Image]]:
  """Yields lists of at most `size` images."""
  part: list[images_lib.Image] = []
  for image in images:
    part.append(image)
    if len(part) == size:
      yield part
      part = []
  if part:
    yield part


def _refuse(name: str, reason: str) -> None:
  raise errors.UserError(f'{name}: cannot be read: {reason}')
