"""The command line of the studies."""

import argparse
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from nfnets import errors, files
from nfnets.experiment import command_line, kinds
from nfnets.studies import results

GAUSSIAN = 'gaussian'
"""The data set of images of Gaussian noise, for networks without training."""


class Options(NamedTuple):
  """What every study reads from its command line.

  Attributes:
    dataset: the name of the data set.
    seeds: number of runs of each kind.
    quick: whether to make a small study that ends in minutes.
    out: the folder of the study.
    changed: the settings that the user changed in all runs.
    own: the values of the study's own options.
  """

  dataset: str
  seeds: int
  quick: bool
  out: pathlib.Path
  changed: Mapping[str, kinds.Value]
  own: argparse.Namespace


def make_parser(
  name: str, description: str, dataset: str = 'digits'
) -> argparse.ArgumentParser:
  """Creates a parser with the options of every study.

  Args:
    name: the study's name, such as 'agc'.
    description: what it does, for --help.
    dataset: the default data set.
  """
  parser = argparse.ArgumentParser(
    prog=f'python -m nfnets.studies.{name}',
    allow_abbrev=False,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description=description,
    epilog='Rerunning the command resumes an interrupted study: finished runs'
    ' are not repeated.\n--config.KEY=VALUE changes a setting in all runs.',
  )
  parser.set_defaults(study=name)
  parser.add_argument(
    '--dataset',
    metavar='NAME',
    default=dataset,
    help='digits, folder:/path or the name of a TFDS data set'
    ' (default: %(default)s)',
  )
  parser.add_argument(
    '--seeds',
    metavar='N',
    type=at_least(1),
    help='number of runs of each kind (default: 3, or 1 with --quick)',
  )
  parser.add_argument(
    '--quick',
    action='store_true',
    help='a small study, which ends within minutes on a CPU and only shows that'
    ' everything works',
  )
  parser.add_argument(
    '--out',
    metavar='DIR',
    help=f'folder for the runs, {results.FILE} and {name}.png'
    f' (default: runs/{name}, or runs/{name}_quick)',
  )
  return parser


def read(parser: argparse.ArgumentParser) -> Options:
  """Reads the command line.

  Args:
    parser: from `make_parser`, with the study's own options.

  Raises:
    UserError: a path or a setting is wrong.
  """
  given, rest = parser.parse_known_args()
  folder = f'runs/{given.study}{"_quick" if given.quick else ""}'
  return Options(
    given.dataset,
    given.seeds or (1 if given.quick else 3),
    given.quick,
    files.user_path(folder if given.out is None else given.out, '--out'),
    command_line.read_changes(rest),
    given,
  )


def combine(
  fixed: Mapping[str, kinds.Value],
  options: Options,
  varied: Mapping[str, kinds.Value],
) -> dict[str, kinds.Value]:
  """Returns the settings of a run.

  Args:
    fixed: those that the study gives all runs; the user's changes replace them.
    options: the command line.
    varied: those in which its runs differ.

  Raises:
    UserError: the user changed one that the study varies.
  """
  for name in options.changed:
    if name in varied:
      raise errors.UserError(
        f'--config.{name} has no effect, because the study sets it to'
        f' {varied[name]!r} in one of its runs: omit it'
      )
  return {**fixed, **options.changed, **varied}


def at_least(least: int) -> Callable[[str], int]:
  """Returns a type of arguments: whole numbers from `least` on."""

  def integer(text: str) -> int:
    if not text.isdecimal() or int(text) < least:
      raise argparse.ArgumentTypeError(
        f'{text} is not a whole number from {least} on'
      )
    return int(text)

  return integer


def positive(text: str) -> float:
  """A type of arguments: finite numbers above 0."""
  try:
    value = float(text)
  except ValueError:
    value = 0.0
  if not 0 < value < kinds.LARGE:
    raise argparse.ArgumentTypeError(f'{text} is not a number above 0')
  return value
