"""What each part of the recipe does to accuracy and speed, as a table.

python -m nfnets.ablation [--config=FILE] [--workdir=DIR] [--seeds=N]
    [--only NAME ...] [--config.key=value ...]
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from nfnets import cli, errors
from nfnets.experiment import command_line

_ALL = 'everything'
# What is switched on -> the settings that do it. Levels are for images of 32
# pixels: the published ones move an image by 50 pixels and more.
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
  """What one run measured.

  Attributes:
    top1: held-out accuracy of the last weights, in [0, 1].
    ema_top1: the same of their moving average; None where none is kept.
    step_time: seconds, the median over the run.
  """

  top1: float
  ema_top1: float | None
  step_time: float


def main() -> int:
  """Trains once for each switch and seed, then prints the table."""
  options, rest = _parser().parse_known_args()
  settings = [f'--config={options.config}', *rest]
  # All settings are read before the first run starts.
  for name in options.only:
    command_line.parse_config(settings + _flags(name, seed=0))
  batch_size = command_line.parse_config(settings)[0].train.batch_size

  results: dict[str, list[Result]] = {name: [] for name in options.only}
  # Seeds outermost: what else the machine does spreads over all rows.
  for seed in range(options.seeds):
    for name in options.only:
      folder = options.workdir / name.replace(' ', '_') / f'seed_{seed}'
      _train(settings + _flags(name, seed), folder)
      result = read_result(folder / 'metrics.jsonl', batch_size)
      print(f'{name}, seed {seed}: {result.top1:.2%}', file=sys.stderr)
      results[name].append(result)
  print(table(results))
  return 0


def read_result(path: pathlib.Path, batch_size: int) -> Result:
  """What a run's metrics.jsonl says at its end.

  Args:
    path: of the file.
    batch_size: images of one step.
  """
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  last = [line for line in lines if 'eval/top1' in line][-1]
  rates = [line['images_per_second'] for line in lines if 'train/loss' in line]
  # The first interval holds the compilation.
  rate = statistics.median(rates[1:] or rates)
  return Result(last['eval/top1'], last.get('eval/ema_top1'), batch_size / rate)


def table(results: dict[str, list[Result]]) -> str:
  """The results in Markdown: a row for each switch, means over the seeds.

  Args:
    results: name of the switch -> its runs, one or more for each seed.
  """
  rows = [
    '| switched on | held-out accuracy | of the averaged weights | step |',
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
  """Mean and range, in percent."""
  if not values:
    return '-'
  mean = 100 * statistics.mean(values)
  return f'{mean:.2f}% ({100 * min(values):.2f}-{100 * max(values):.2f})'


def _flags(name: str, seed: int) -> list[str]:
  return [f'--config.{x}' for x in (*SWITCHES[name], f'seed={seed}')]


def _train(settings: Sequence[str], folder: pathlib.Path) -> None:
  """Runs one experiment, or goes on with it, in a process of its own.

  Raises:
    UserError: the experiment failed.
  """
  folder.mkdir(parents=True, exist_ok=True)
  log = folder / 'output.txt'
  command = [sys.executable, '-m', 'nfnets.experiment', *settings]
  with open(log, 'w', encoding='utf-8') as file:
    run = subprocess.run(
      [*command, f'--workdir={folder}'], stdout=file, stderr=subprocess.STDOUT
    )
  if run.returncode:
    said = log.read_text().strip().rpartition('\n')[2]
    raise errors.UserError(
      f'the run in {folder} ended with status {run.returncode} ({said}); all'
      ' that it said is in output.txt there'
    )


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.ablation',
    allow_abbrev=False,
    description='Trains with each part of the recipe switched on, and with'
    ' all of them, and prints accuracy and step time as a table.'
    ' --config.key=value changes a setting of all runs.',
  )
  parser.add_argument(
    '--config',
    metavar='FILE',
    default='experiments/digits.py',
    help='the experiment to switch them on in (default: %(default)s)',
  )
  parser.add_argument(
    '--workdir',
    metavar='DIR',
    type=pathlib.Path,
    default=pathlib.Path('runs/ablation'),
    help='of all runs; runs that are in it go on (default: %(default)s)',
  )
  parser.add_argument(
    '--seeds', metavar='N', type=_positive, default=3, help='runs of each row'
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
    raise argparse.ArgumentTypeError(f'{text} is not a number above 0')
  return int(text)


if __name__ == '__main__':
  cli.run(main)
