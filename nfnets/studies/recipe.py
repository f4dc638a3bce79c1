"""The effect of each part of the recipe on accuracy and speed.

python -m nfnets.studies.recipe [--config=FILE[:VARIANT]] [--dataset=NAME]
    [--only NAME ...] [--seeds=N] [--quick] [--out=DIR] [--config.key=value ...]
"""

import argparse
import pathlib
import statistics
from collections.abc import Mapping, Sequence

from nfnets import cli
from nfnets.experiment import command_line, kinds
from nfnets.experiment import config as config_lib
from nfnets.studies import options as options_lib
from nfnets.studies import results, small, summary

NAME = 'recipe'
_DESCRIPTION = """\
Trains an experiment without regularization, then with parts of the recipe, such
as RandAugment or SAM, enabled one at a time and all together. Takes over 10
times as long as the experiment for each seed."""
_NOTHING, _ALL = 'nothing', 'everything'
# What the experiment itself may have enabled.
_OFF: dict[str, kinds.Value] = {
  'augment.randaugment_layers': 0,
  'augment.mixup_alpha': 0.0,
  'augment.cutmix_alpha': 0.0,
  'train.sam_rho': 0.0,
  'train.ema_decay': 0.0,
  'train.label_smoothing': 0.0,
  'train.dtype': 'float32',
  'train.accumulation': 1,
  'model.stochdepth_rate': 0.0,
}
# Part of the recipe -> the settings that enable it. RandAugment's magnitude is
# for images of 32 pixels: the published one moves an image by 50 pixels and
# more.
_PARTS: dict[str, dict[str, kinds.Value]] = {
  'RandAugment': {
    'augment.randaugment_layers': 1,
    'augment.randaugment_magnitude': 1,
  },
  'MixUp and CutMix': {
    'augment.mixup_alpha': 0.2,
    'augment.cutmix_alpha': 1.0,
  },
  'SAM': {'train.sam_rho': 0.05},
  'weight averaging': {'train.ema_decay': 0.99},
  'stochastic depth': {'model.stochdepth_rate': 0.1},
  'label smoothing': {'train.label_smoothing': 0.1},
  'bfloat16': {'train.dtype': 'bfloat16'},
  'accumulation of 4': {'train.accumulation': 4},
}
SWITCHES: dict[str, dict[str, kinds.Value]] = {
  _NOTHING: {},
  **_PARTS,
  _ALL: {k: x for part in _PARTS.values() for k, x in part.items()},
}
_QUICK_STEPS = 24


def main() -> int:
  """Reads the command line, then runs the study."""
  options = options_lib.read(_parser())
  runs = plan(options)
  from nfnets.studies import runner, trials

  return runner.study(
    runs, options.out, trials.train, table, draw, trials.check
  )


def plan(options: options_lib.Options) -> list[results.Run]:
  """Returns the runs, seed by seed.

  Other load on the machine then affects all rows alike.
  """
  fixed = _experiment(options)
  runs = []
  for seed in range(options.seeds):
    for name in options.own.only:
      varied = {**_OFF, **SWITCHES[name], 'seed': seed}
      settings = options_lib.combine(fixed, options, varied)
      runs.append(results.Run({'enabled': name, 'seed': seed}, settings))
  return runs


def _experiment(options: options_lib.Options) -> Mapping[str, kinds.Value]:
  """Returns the settings of the experiment that the study changes."""
  digits = options.dataset == 'digits'
  file = 'digits.py' if digits else 'cifar.py:nfnet'
  given = options.own.config or f'experiments/{file}'
  values = config_lib.flatten(
    command_line.parse_config([f'--config={given}'])[0]
  )
  if not options.own.config:
    values['dataset'] = options.dataset
  if options.quick:
    values |= small.length(_QUICK_STEPS)
  return values


def table(found: Sequence[results.Result]) -> str:
  """Formats the results in Markdown, one row per part of the recipe.

  Args:
    found: the results.

  Returns:
    The table. Accuracies are means with their intervals over the seeds; the
    step time is the median over the seeds.
  """
  rows = []
  for name, group in _by_part(found):
    accuracy = summary.estimate(group, 'top1')
    averaged = [x for x in group if x.diverged or 'ema_top1' in x.numbers]
    times = [x.numbers['step_time'] for x in group if 'step_time' in x.numbers]
    rows.append(
      (
        name,
        summary.percent(accuracy),
        summary.percent(summary.estimate(averaged, 'ema_top1')),
        f'{1000 * statistics.median(times):.0f} ms' if times else '-',
      )
    )
  header = ('enabled', 'held-out accuracy', 'with averaged weights', 'step')
  return summary.table(header, rows)


def draw(found: Sequence[results.Result], folder: pathlib.Path) -> None:
  """Draws the accuracy of each row."""
  from nfnets.studies import figure

  groups = _by_part(found)
  curves = [
    figure.Curve(
      label, range(len(groups)), [summary.estimate(x, key) for _, x in groups]
    )
    for label, key in (('weights', 'top1'), ('averaged weights', 'ema_top1'))
  ]

  def panel(axes: 'figure.axes_lib.Axes') -> None:
    figure.draw_curves(axes, curves, joined=False)
    names = [name for name, _ in groups]
    axes.set_xticks(range(len(names)), names, rotation=40, ha='right')
    axes.tick_params(labelsize=7)
    axes.set_ylabel('held-out accuracy (%)')

  figure.save(folder / f'{NAME}.png', [panel], f'Bars: {summary.INTERVAL}')


def _by_part(
  found: Sequence[results.Result],
) -> list[tuple[str, list[results.Result]]]:
  names = dict.fromkeys(str(x.labels['enabled']) for x in found)
  return [(name, results.select(found, enabled=name)) for name in names]


def _parser() -> argparse.ArgumentParser:
  parser = options_lib.make_parser(NAME, _DESCRIPTION)
  parser.add_argument(
    '--config',
    metavar='FILE[:VARIANT]',
    help='the experiment to change, with its own data set (default:'
    ' experiments/digits.py, or experiments/cifar.py:nfnet for another'
    ' --dataset)',
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


if __name__ == '__main__':
  cli.run(main)
