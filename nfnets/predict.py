"""Predicts the classes of images.

python -m nfnets.predict --weights=FILE_OR_WORKDIR IMAGE_OR_FOLDER...
"""

import argparse
import csv
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from nfnets import cli, errors, files
from nfnets.data import folders

if TYPE_CHECKING:
  from nfnets import weights
  from nfnets.inference import Prediction


def main() -> int:
  """Reads the command line, predicts and prints; returns the exit status."""
  options = _parser().parse_args()
  weights_file = files.user_path(options.weights, '--weights')
  paths = folders.find_images(options.images)
  # JAX is imported here, to keep --help and messages about paths instant.
  from nfnets import inference
  from nfnets.runtime import compilation, platforms

  compilation.prepare()
  platforms.check()
  loaded = _load(weights_file, options)
  if not loaded.model.config.num_classes:
    raise errors.UserError(
      f'{options.weights}: a backbone without a classifier cannot predict'
      ' classes; choose a file with a classifier'
    )
  unreadable: list[pathlib.Path] = []

  def report(path: pathlib.Path, reason: str) -> None:
    unreadable.append(path)
    print(errors.printable(f'{path}: {reason}'), file=sys.stderr)

  batch_size = min(options.batch_size, len(paths))
  predictions = list(
    inference.predict(loaded, _progress(paths), batch_size, report, options.top)
  )
  _PRINTERS[options.format](predictions)
  if unreadable:
    print(
      f'{len(unreadable)} of {len(paths)} images could not be read',
      file=sys.stderr,
    )
  return 1 if unreadable else 0


def _load(
  weights_file: pathlib.Path, options: argparse.Namespace
) -> 'weights.Loaded':
  from nfnets import runs, weights

  if os.path.isdir(weights_file):
    if options.model:
      raise errors.UserError(
        f'--model={options.model}: {weights_file} is a directory, and a'
        ' training run specifies its model; omit --model'
      )
    step = runs.best_step(weights_file) if options.best else None
    return runs.load(weights_file, step=step)
  if options.best:
    raise errors.UserError(
      f'--best: {weights_file} is not the workdir of a training run; omit it'
    )
  return weights.load_model(weights_file, options.model)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.predict',
    description='Predicts the most likely classes of each image.',
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
  _add_formats(parser)
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


def _add_formats(parser: argparse.ArgumentParser) -> None:
  formats = parser.add_mutually_exclusive_group()
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


def _print_tables(predictions: Sequence['Prediction']) -> None:
  import rich.console
  import rich.table

  table = rich.table.Table()
  table.add_column('Image', overflow='fold')
  table.add_column('Class')
  table.add_column('Probability', justify='right')
  for prediction in predictions:
    for rank, guess in enumerate(prediction.guesses):
      table.add_row(
        '' if rank else errors.printable(prediction.image),
        errors.printable(guess.name),
        f'{guess.probability:.2%}',
        end_section=rank == len(prediction.guesses) - 1,
      )
  # Names such as 'cat[/].jpg' and ':dog:' are not markup.
  rich.console.Console(markup=False, emoji=False).print(table)


def _print_json(predictions: Sequence['Prediction']) -> None:
  rows = [
    {
      'image': prediction.image,
      'predictions': [guess._asdict() for guess in prediction.guesses],
    }
    for prediction in predictions
  ]
  print(json.dumps(rows, indent=2))


def _print_csv(predictions: Sequence['Prediction']) -> None:
  writer = csv.writer(sys.stdout, lineterminator='\n')
  writer.writerow(['image', 'rank', 'label', 'name', 'probability'])
  for prediction in predictions:
    image = errors.printable(prediction.image)
    for rank, guess in enumerate(prediction.guesses, 1):
      name = errors.printable(guess.name)
      writer.writerow([image, rank, guess.label, name, guess.probability])


_PRINTERS: dict[str, Callable[[Sequence['Prediction']], None]] = {
  'table': _print_tables,
  'json': _print_json,
  'csv': _print_csv,
}


if __name__ == '__main__':
  cli.run(main)
