"""Says what is in images.

python -m nfnets.predict --weights=FILE IMAGE_OR_FOLDER...
"""

import argparse
import csv
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nfnets import cli, errors

if TYPE_CHECKING:
  import numpy as np

  from nfnets import models, weights

TOP = 5
_SUFFIXES = frozenset(
  ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
)


class Guess(NamedTuple):
  """One of the likeliest classes of an image."""

  label: int  # from 0
  name: str
  probability: float


class Prediction(NamedTuple):
  """The likeliest classes of an image, best first."""

  image: str
  guesses: tuple[Guess, ...]


def main() -> int:
  """Reads the command line, predicts and prints."""
  options = _parser().parse_args()
  paths = find_images(options.images)
  # JAX is imported here: --help and missing folders answer at once.
  from nfnets import compilation, weights

  compilation.prepare()
  loaded = weights.load_model(options.weights, options.model)
  if not loaded.model.config.num_classes:
    raise errors.UserError(
      f'{options.weights}: a backbone, without classifier: nothing to predict'
    )
  unreadable: list[pathlib.Path] = []

  def report(path: pathlib.Path, reason: str) -> None:
    unreadable.append(path)
    print(f'{path}: {reason}', file=sys.stderr)

  batch_size = min(options.batch_size, len(paths))
  predictions = list(predict(loaded, _progress(paths), batch_size, report))
  _PRINTERS[options.format](predictions)
  if unreadable:
    print(
      f'{len(unreadable)} of {len(paths)} images could not be read',
      file=sys.stderr,
    )
  return 1 if unreadable else 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.predict',
    description=f'Names the {TOP} likeliest classes of images.',
    epilog='Exit status: 0, or 1 if an image could not be read.',
  )
  parser.add_argument(
    'images', nargs='+', type=pathlib.Path, metavar='IMAGE_OR_FOLDER'
  )
  parser.add_argument(
    '--weights',
    required=True,
    metavar='FILE',
    help='any file that python -m nfnets.convert reads, or a model of the'
    ' Hugging Face hub, such as timm/dm_nfnet_f0.dm_in1k',
  )
  parser.add_argument(
    '--model', metavar='NAME', help='where the file does not tell its model'
  )
  parser.add_argument(
    '--batch_size', type=_positive, default=16, metavar='N', help='images'
  )
  output = parser.add_mutually_exclusive_group()
  for name in ('json', 'csv'):
    output.add_argument(
      f'--{name}', dest='format', action='store_const', const=name
    )
  parser.set_defaults(format='table')
  return parser


def _positive(text: str) -> int:
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{value} is not at least 1')
  return value


def find_images(paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
  """The files among the paths, and the images in the folders among them.

  Args:
    paths: files, taken whatever they are called, and folders, in which files
      with an image's suffix are taken, at any depth.

  Returns:
    Files, those of each folder sorted.

  Raises:
    UserError: a path does not exist, or a folder holds no image.
  """
  found: list[pathlib.Path] = []
  for path in paths:
    if not path.exists():
      raise errors.UserError(f'{path}: no such file or folder')
    if not path.is_dir():
      found.append(path)
      continue
    files = sorted(
      file
      for file in path.rglob('*')
      if file.suffix.lower() in _SUFFIXES and file.is_file()
    )
    if not files:
      raise errors.UserError(
        f'{path}: no image in this folder ({", ".join(sorted(_SUFFIXES))})'
      )
    found += files
  return found


def predict(
  loaded: 'weights.Loaded',
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
  import jax
  import numpy as np

  from nfnets import models

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


def _make_probabilities(model: 'models.Model') -> Callable[..., 'np.ndarray']:
  """(params, state, uint8[B, S, S, 3]) -> float32[B, num_classes]."""
  import jax

  from nfnets.augment import preprocess
  from nfnets.models import registry

  config = model.config

  def probabilities(
    params: registry.Params, state: registry.State, images: jax.Array
  ) -> jax.Array:
    inputs = preprocess.normalize(images, config.mean, config.std)
    (logits, _), _ = model.apply(params, state, None, inputs, False)
    return jax.nn.softmax(logits)

  return jax.jit(probabilities)


def _read_into(
  path: pathlib.Path, out: 'np.ndarray', loaded: 'weights.Loaded'
) -> str | None:
  """Writes the image, cut to size, into `out`; returns what is wrong."""
  from nfnets.data import crops, images

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


def _best(row: 'np.ndarray', names: Sequence[str]) -> tuple[Guess, ...]:
  # Stable, so that ties come out the same on every machine.
  order = (-row).argsort(kind='stable')[:TOP].tolist()
  return tuple(Guess(i, names[i], float(row[i])) for i in order)


def _progress(paths: Sequence[pathlib.Path]) -> Iterable[pathlib.Path]:
  """The paths, with a bar on stderr where someone looks at it."""
  import rich.console
  import rich.progress

  console = rich.console.Console(stderr=True)
  return rich.progress.track(
    paths,
    'Predicting',
    console=console,
    transient=True,
    disable=len(paths) == 1 or not console.is_terminal,
  )


def _print_tables(predictions: Sequence[Prediction]) -> None:
  import rich.console
  import rich.table

  table = rich.table.Table()
  table.add_column('Image', overflow='fold')
  table.add_column('Class')
  table.add_column('Probability', justify='right')
  for prediction in predictions:
    for rank, guess in enumerate(prediction.guesses):
      table.add_row(
        '' if rank else prediction.image,
        guess.name,
        f'{guess.probability:.2%}',
        end_section=rank == len(prediction.guesses) - 1,
      )
  rich.console.Console().print(table)


def _print_json(predictions: Sequence[Prediction]) -> None:
  rows = [
    {
      'image': prediction.image,
      'predictions': [guess._asdict() for guess in prediction.guesses],
    }
    for prediction in predictions
  ]
  print(json.dumps(rows, indent=2))


def _print_csv(predictions: Sequence[Prediction]) -> None:
  writer = csv.writer(sys.stdout, lineterminator='\n')
  writer.writerow(['image', 'rank', *Guess._fields])
  for prediction in predictions:
    for rank, guess in enumerate(prediction.guesses, 1):
      writer.writerow([prediction.image, rank, *guess])


_PRINTERS: dict[str, Callable[[Sequence[Prediction]], None]] = {
  'table': _print_tables,
  'json': _print_json,
  'csv': _print_csv,
}


if __name__ == '__main__':
  cli.run(main)
