"""Measures the effect of each part of the recipe on accuracy and speed.

python -m nfnets.ablation [--config=FILE] [--workdir=DIR] [--seeds=N]
    [--only NAME ...] [--config.key=value ...]
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from nfnets import cli, errors, files
from nfnets.experiment import command_line
from nfnets.training import workdir as workdir_lib

_ALL = 'everything'
# Part of the recipe -> the settings that enable it. RandAugment's magnitude is
# for images of 32 pixels: the published one moves an image by 50 pixels and
# more.
_PARTS: dict[str, tuple[str, ...]] = {
  'RandAugment': (
    'augment.randaugment_layers=1',
    'augment.randaugment_magnitude=1',
  ),
  'MixUp and CutMix': (
    'augment.mixup_alpha=0.2',
    'augment.cutmix_alpha=1.0',
  ),
  'SAM': ('train.sam_rho=0.05',),
  'bfloat16': ('train.dtype=bfloat16',),
  'accumulation of 4': ('train.accumulation=4',),
}
SWITCHES: dict[str, tuple[str, ...]] = {
  'nothing': (),
  **_PARTS,
  _ALL: tuple(setting for part in _PARTS.values() for setting in part),
}


class Result(NamedTuple):
  """The results of one run.

  Attributes:
    top1: held-out accuracy of the final weights, in [0, 1].
    ema_top1: held-out accuracy of the averaged weights, in [0, 1]; None if the
      run keeps no average.
    step_time: median time per step, in seconds.
  """

  top1: float
  ema_top1: float | None
  step_time: float


def main() -> int:
  """Trains once for each row and seed, then prints the table."""
  options, rest = _parser().parse_known_args()
  workdir = files.user_path(options.workdir, '--workdir')
  settings = [f'--config={options.config}', *rest]
  # Errors in the settings are found before the first run starts.
  for name in options.only:
    command_line.parse_config(settings + _flags(name, seed=0))
  batch_size = command_line.parse_config(settings)[0].train.batch_size

  results: dict[str, list[Result]] = {name: [] for name in options.only}
  # Seeds outermost: other load on the machine then affects all rows alike.
  for seed in range(options.seeds):
    for name in options.only:
      folder = workdir / name.replace(' ', '_') / f'seed_{seed}'
      _train(settings + _flags(name, seed), folder)
      result = read_result(folder / workdir_lib.METRICS, batch_size)
      print(f'{name}, seed {seed}: {result.top1:.2%}', file=sys.stderr)
      results[name].append(result)
  print(table(results))
  return 0


def read_result(path: pathlib.Path, batch_size: int) -> Result:
  """Reads the results of a finished run from its metrics.jsonl.

  Args:
    path: the file's path.
    batch_size: images per step.

  Raises:
    UserError: the file cannot be read, or lacks results.
  """
  try:
    lines = [files.parse_json(x) for x in path.read_bytes().splitlines()]
    last = [line for line in lines if 'eval/top1' in line][-1]
    rates = [x['images_per_second'] for x in lines if 'train/loss' in x]
    # The first interval includes compilation.
    rate = statistics.median(rates[1:] or rates)
    averaged = last.get('eval/ema_top1')
    return Result(
      float(last['eval/top1']),
      None if averaged is None else float(averaged),
      batch_size / rate,
    )
  except (
    OSError, ValueError, TypeError, LookupError, AttributeError,
    ArithmeticError,
  ) as error:  # fmt: skip
    reason = ' '.join(str(error).split())[:80]
    raise errors.UserError(
      f'{path}: has no results of a finished run ({type(error).__name__}:'
      f' {reason}): remove {path.parent} to run it again'
    ) from error


def table(results: dict[str, list[Result]]) -> str:
  """Formats the results in Markdown, one row per part of the recipe.

  Args:
    results: name of the row -> its runs, at least one.

  Returns:
    The table. Accuracies are means with the range over the runs; the step time
    is the median over the runs.
  """
  rows = [
    '| enabled | held-out accuracy | with averaged weights | step |',
    '|---|---|---|---|',
  ]
  for name, runs in results.items():
    averaged = [run.ema_top1 for run in runs if run.ema_top1 is not None]
    time = statistics.median(run.step_time for run in runs)
    rows.append(
      f'| {name} | {_accuracy([run.top1 for run in runs])} '
      f'| {_accuracy(averaged)} | {1000 * time:.0f} ms |'
    )
  return '\n'.join(rows)


def _accuracy(values: Sequence[float]) -> str:
  """Formats mean and range in percent; '-' without values."""
  if not values:
    return '-'
  mean = 100 * statistics.mean(values)
  return f'{mean:.2f}% ({100 * min(values):.2f}-{100 * max(values):.2f})'


def _flags(name: str, seed: int) -> list[str]:
  return [f'--config.{x}' for x in (*SWITCHES[name], f'seed={seed}')]


def _train(settings: Sequence[str], folder: pathlib.Path) -> None:
  """Runs or resumes one experiment in a separate process.

  Raises:
    UserError: the experiment failed, or the folder cannot be written.
  """
  log = folder / 'output.txt'
  command = [sys.executable, '-m', 'nfnets.experiment', *settings]
  try:
    folder.mkdir(parents=True, exist_ok=True)
    file = open(log, 'w', encoding='utf-8')
  except OSError as error:
    raise errors.UserError(
      f'{folder} cannot be written ({error.strerror}): choose another folder'
      ' with --workdir'
    ) from error
  with file:
    run = subprocess.run(
      [*command, f'--workdir={folder}'], stdout=file, stderr=subprocess.STDOUT
    )
  if run.returncode:
    last_line = log.read_text().strip().rpartition('\n')[2]
    raise errors.UserError(
      f'the run in {folder} failed with status {run.returncode} ({last_line});'
      f' its full output is in {log}'
    )


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.ablation',
    allow_abbrev=False,
    description='Trains with parts of the recipe, such as RandAugment or SAM,'
    ' enabled one at a time and all together, and prints a table of accuracy'
    ' and step time. --config.KEY=VALUE changes a setting in all runs.',
  )
  parser.add_argument(
    '--config',
    metavar='FILE[:VARIANT]',
    default='experiments/digits.py',
    help='the experiment to change (default: %(default)s)',
  )
  parser.add_argument(
    '--workdir',
    metavar='DIR',
    default='runs/ablation',
    help='folder for all runs; unfinished runs in it are resumed'
    ' (default: %(default)s)',
  )
  parser.add_argument(
    '--seeds',
    metavar='N',
    type=_positive,
    default=3,
    help='number of runs per row (default: %(default)s)',
  )
  parser.add_argument(
    '--only',
    metavar='NAME',
    nargs='+',
    choices=list(SWITCHES),
    default=list(SWITCHES),
    help=f'rows of the table: {", ".join(SWITCHES)} (default: all)',
  )
  return parser


def _positive(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text} is not a positive integer')
  return int(text)


if __name__ == '__main__':
  cli.run(main)
