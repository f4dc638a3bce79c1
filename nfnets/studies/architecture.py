"""The changes from an SE-ResNeXt-D to an NFNet, one by one.

python -m nfnets.studies.architecture [--dataset=NAME] [--seeds=N] [--quick]
    [--out=DIR] [--steps=N]

References:
  Brock et al, `High-Performance Large-Scale Image Recognition Without
  Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, table 2.
"""

import argparse
import pathlib
import statistics
from collections.abc import Sequence

from nfnets import cli
from nfnets.experiment import kinds
from nfnets.studies import options as options_lib
from nfnets.studies import results, small, summary

NAME = 'architecture'
_DESCRIPTION = """\
Trains normalizer-free networks that lead from an SE-ResNeXt-D to an NFNet in
four changes, each added to the ones before, with an eighth of the published
channels, and draws accuracy against the time of a step (table 2 of arXiv
2102.06171). Activation, squeeze-excite and the pooling of
shortcuts are those of NFNets throughout; the stem is for small images.

A run of 4,000 steps of 256 images sees 1,024,000 images: at 500 images/s, half
an hour. There are 5 runs per seed. The time of a step depends on the load of
the machine: compare it on an idle one."""
# Of the 128 channels of a published group, a sixteenth: bottlenecks of a
# quarter are not wider.
_WIDTH, _GROUP = 0.125, 8
_BATCH, _STEPS, _QUICK_STEPS = 256, 4000, 12
# Name -> the settings that it adds to the rows above it.
CHANGES: dict[str, dict[str, kinds.Value]] = {
  'SE-ResNeXt-D': {
    'model.depth': (3, 4, 6, 3),
    'model.widths': (256, 512, 1024, 2048),
    'model.bottleneck_ratio': 0.25,
    'model.extra_conv': False,
  },
  '+ depth pattern': {'model.depth': (1, 2, 6, 3)},
  '+ width pattern': {'model.widths': (256, 512, 1536, 1536)},
  '+ bottleneck ratio': {'model.bottleneck_ratio': 0.5},
  '+ second 3x3 (NFNet)': {'model.extra_conv': True},
}


def main() -> int:
  """Reads the command line, then runs the study."""
  options = options_lib.read(_parser())
  runs = plan(options)
  from nfnets.studies import runner, trials

  return runner.study(
    runs, options.out, trials.train, describe, draw, trials.check
  )


def plan(options: options_lib.Options) -> list[results.Run]:
  """Returns the runs, seed by seed."""
  steps = options.own.steps or (_QUICK_STEPS if options.quick else _STEPS)
  fixed: dict[str, kinds.Value] = {
    **small.network(),
    **small.images(options.dataset),
    **small.length(steps),
    'model.name': 'nfnet_f0',
    'model.width': _WIDTH,
    'model.group_size': _GROUP,
    # From 0, a short run with clipping would not learn: docs/training.md.
    'model.skip_gain_init': 0.5,
    'optimizer.clipping': 0.02,
    'optimizer.weight_decay': 2e-5,
    'train.batch_size': 64 if options.quick else _BATCH,
  }
  runs = []
  for seed in range(options.seeds):
    varied: dict[str, kinds.Value] = {'seed': seed}
    for change, settings in CHANGES.items():
      varied |= settings
      runs.append(
        results.Run(
          {'network': change, 'seed': seed},
          options_lib.combine(fixed, options, varied),
        )
      )
  return runs


def describe(found: Sequence[results.Result]) -> str:
  """Formats accuracy and step time, one row per network."""
  rows = []
  for name, group in _by_network(found):
    time = _step_time(group)
    rows.append(
      (
        name,
        summary.percent(summary.estimate(group, 'top1')),
        '-' if time is None else f'{1000 * time:.0f} ms',
      )
    )
  return summary.table(('network', 'held-out accuracy', 'step'), rows)


def draw(found: Sequence[results.Result], folder: pathlib.Path) -> None:
  """Draws accuracy against the time of a step."""
  from nfnets.studies import figure

  curves = []
  for name, group in _by_network(found):
    time = _step_time(group)
    if time is not None:
      ys = [summary.estimate(group, 'top1')]
      curves.append(figure.Curve(name, [1000 * time], ys))

  def panel(axes: 'figure.axes_lib.Axes') -> None:
    figure.draw_curves(axes, curves)
    axes.set_xlabel('time of a train step (ms)')
    axes.set_ylabel('held-out accuracy (%)')

  figure.save(folder / f'{NAME}.png', [panel], f'Bars: {summary.INTERVAL}')


def _step_time(group: Sequence[results.Result]) -> float | None:
  """Returns the median over the seeds in seconds; None if none was measured."""
  times = [x.numbers['step_time'] for x in group if 'step_time' in x.numbers]
  return statistics.median(times) if times else None


def _by_network(
  found: Sequence[results.Result],
) -> list[tuple[str, list[results.Result]]]:
  groups = ((x, results.select(found, network=x)) for x in CHANGES)
  return [(name, group) for name, group in groups if group]


def _parser() -> argparse.ArgumentParser:
  parser = options_lib.make_parser(NAME, _DESCRIPTION)
  parser.add_argument(
    '--steps',
    metavar='N',
    type=options_lib.at_least(1),
    help=f'length of each run (default: {_STEPS:,})',
  )
  return parser


if __name__ == '__main__':
  cli.run(main)
