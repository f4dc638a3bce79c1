"""Predicts the classes of images.

python -m nfnets.predict --weights=FILE_OR_WORKDIR IMAGE_OR_FOLDER...
"""

import argparse
import contextlib
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

import numpy as np

from nfnets import cli, errors, files
from nfnets.data import folders

if TYPE_CHECKING:
  from nfnets.inference.network import Network
  from nfnets.inference.results import Prediction

_GRID = 64  # images in the grid of --grid, at most


def main() -> int:
  """Reads the command line, predicts and prints; returns the exit status."""
  options = _parser().parse_args()
  source = files.user_path(options.weights, '--weights')
  _check_outputs(options)
  paths = folders.find_images(options.images)
  # JAX is imported here, to keep --help and messages about paths instant.
  from nfnets.inference import network as network_lib
  from nfnets.inference import results, sources
  from nfnets.runtime import compilation, platforms

  compilation.prepare()
  platforms.check()
  network = network_lib.Network(
    sources.load_weights(source, options.model, options.best)
  )
  if not network.model.config.num_classes:
    raise errors.UserError(
      f'{options.weights}: a backbone without a classifier cannot predict'
      ' classes; choose a file with a classifier'
    )
  run = _Run(network, paths, options)
  with _opened(options.out) as file:
    results.WRITERS[_format(options)](run.predictions(), file)
  run.save()
  if run.unreadable:
    print(
      f'{run.unreadable} of {len(paths)} images could not be read',
      file=sys.stderr,
    )
  return 1 if run.unreadable else 0


class _Run:
  """The predictions of all images, and what is kept of them.

  Attributes:
    unreadable: number of images that could not be read.
  """

  def __init__(
    self,
    network: 'Network',
    paths: Sequence[pathlib.Path],
    options: argparse.Namespace,
  ) -> None:
    """Prepares a run; reads nothing."""
    self.unreadable = 0
    self._network, self._paths, self._options = network, paths, options
    self._embedded: list[tuple[str, np.ndarray, np.ndarray]] = []
    self._seen: list[tuple[np.ndarray, str]] = []

  def predictions(self) -> Iterator['Prediction']:
    """Yields the prediction of each readable image, reports the others."""
    from nfnets.inference import network as network_lib
    from nfnets.inference import results

    options, names = self._options, self._network.class_names
    outputs = [network_lib.PROBABILITIES]
    outputs += ['pool'] if options.embeddings else []
    for image, row in self._network.stream(
      _progress(self._paths),
      outputs,
      min(options.batch_size, len(self._paths)),
      self._report,
    ):
      probabilities = row[network_lib.PROBABILITIES]
      guesses = network_lib.best(probabilities, names, options.top)
      if options.embeddings:
        self._embedded.append((image, row['pool'], probabilities))
      if options.grid and len(self._seen) < _GRID:
        caption = f'{guesses[0].name} {guesses[0].probability:.0%}'
        self._seen.append((row[network_lib.CROP], caption))
      yield results.Prediction(image, guesses)

  def save(self) -> None:
    """Writes the files of --embeddings and --grid, if any image was read."""
    from nfnets.data import grid

    options = self._options
    if self._embedded:
      images, embeddings, probabilities = zip(*self._embedded, strict=True)
      with (
        _replacing(options.embeddings) as temporary,
        open(temporary, 'wb') as file,
      ):
        np.savez(
          file,
          images=np.array(images),
          embeddings=np.stack(embeddings),
          probabilities=np.stack(probabilities),
          class_names=np.array(self._network.class_names),
        )
    if self._seen:
      crops, captions = zip(*self._seen, strict=True)
      path = files.user_path(options.grid, '--grid')
      grid.write_grid(path, np.stack(crops), captions)

  def _report(self, path: str, reason: str) -> None:
    self.unreadable += 1
    print(errors.printable(f'{path}: {reason}'), file=sys.stderr)


def _check_outputs(options: argparse.Namespace) -> None:
  """Checks the files to write, before anything slow."""
  suffixes = {'out': ('.csv', '.json'), 'embeddings': ('.npz',)}
  for name in ('out', 'embeddings', 'grid'):
    value = getattr(options, name)
    if value is None:
      continue
    path = files.user_path(value, f'--{name}')
    if not os.path.isdir(path.parent):
      raise errors.UserError(f'--{name}={value}: {path.parent}: no such folder')
    if path.suffix not in suffixes.get(name, ('.png',)):
      wanted = ' or '.join(suffixes.get(name, ('.png',)))
      raise errors.UserError(f'--{name}={value}: its name must end in {wanted}')


def _format(options: argparse.Namespace) -> str:
  """Returns the name of the format to write."""
  if options.out is None:
    return options.format
  return os.path.splitext(options.out)[1].removeprefix('.')


@contextlib.contextmanager
def _opened(out: str | None) -> Iterator[TextIO]:
  """Yields stdout, or a file that replaces that of --out at the end."""
  if out is None:
    yield sys.stdout
    return
  with (
    _replacing(out) as temporary,
    open(temporary, 'w', encoding='utf-8', newline='') as file,
  ):
    yield file


@contextlib.contextmanager
def _replacing(value: str) -> Iterator[pathlib.Path]:
  """Yields a temporary file that replaces the one of a user's path."""
  path = files.user_path(value, 'output')
  try:
    with files.replacing(path) as temporary:
      yield temporary
  except OSError as error:
    raise errors.UserError(
      f'{path}: cannot be written: {error.strerror}'
    ) from error


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.predict',
    description='Predicts the most likely classes of each image, in float32.',
    epilog='Exit status: 0, or 1 on errors and if an image cannot be read.',
  )
  parser.add_argument(
    'images',
    nargs='+',
    metavar='IMAGE_OR_FOLDER',
    help='an image file with any name, or a folder, searched for images with'
    ' its subfolders; hidden files and folders are skipped, links are followed',
  )
  _add_weights(parser)
  parser.add_argument(
    '--batch_size',
    type=_positive,
    default=16,
    metavar='N',
    help='images per forward pass (default: %(default)s)',
  )
  parser.add_argument(
    '--top',
    type=_positive,
    default=5,
    metavar='K',
    help='number of classes per image (default: %(default)s)',
  )
  _add_outputs(parser)
  return parser


def _add_weights(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--weights',
    required=True,
    metavar='FILE_OR_WORKDIR',
    help='any file that python -m nfnets.convert reads; the workdir of a'
    ' training run, for its latest checkpoint, with averaged weights if the run'
    ' kept them; or a model on the Hugging Face Hub, such as'
    ' timm/dm_nfnet_f0.dm_in1k',
  )
  parser.add_argument(
    '--model',
    metavar='NAME',
    help='model name; needed only if the file does not specify it',
  )
  parser.add_argument(
    '--best',
    action='store_true',
    help='with a workdir: use the checkpoint with the best held-out accuracy,'
    ' not the latest',
  )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--embeddings',
    metavar='FILE.npz',
    help='also write the pooled features, float32[N, C], with the names of the'
    ' images, their probabilities and the names of the classes',
  )
  parser.add_argument(
    '--grid',
    metavar='FILE.png',
    help=f'also draw what the network sees of the first {_GRID} images',
  )
  formats = parser.add_mutually_exclusive_group()
  formats.add_argument(
    '--out',
    metavar='FILE',
    help='write the results to a .csv or .json file instead of printing them',
  )
  for name in ('json', 'csv'):
    formats.add_argument(
      f'--{name}',
      dest='format',
      action='store_const',
      const=name,
      help=f'print {name.upper()} instead of a table',
    )
  parser.set_defaults(format='table')


def _positive(text: str) -> int:
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{value} is not at least 1')
  return value


def _progress(paths: Sequence[pathlib.Path]) -> Iterable[pathlib.Path]:
  """Yields the paths, with a progress bar if stderr is a terminal."""
  import rich.console
  import rich.progress

  # Warnings beside the bar are printed as they are.
  plain = {'markup': False, 'emoji': False, 'highlight': False}
  console = rich.console.Console(stderr=True, **plain)
  return rich.progress.track(
    paths,
    'Predicting',
    console=console,
    transient=True,
    disable=len(paths) == 1 or not console.is_terminal,
  )


if __name__ == '__main__':
  cli.run(main)
