"""Adaptive gradient clipping: accuracy by batch size, lambda and rate.

python -m nfnets.studies.agc [--dataset=NAME] [--seeds=N] [--quick] [--out=DIR]
    [--steps=N] [--batches N ...] [--rates X ...] [--lambdas X ...]
    [--norms X ...]

References:
  Brock et al, `High-Performance Large-Scale Image Recognition Without
  Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, section 4.1 and
  figure 2.
"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nfnets import cli
from nfnets.experiment import kinds
from nfnets.studies import agc_figure, results, small
from nfnets.studies import options as options_lib

NAME = 'agc'
_DESCRIPTION = """\
Trains a small NF-ResNet without clipping, with AGC, and clipped by the global
norm of the gradient, and the same network with batch normalization, at several
batch sizes, learning rates and lambdas (figure 2 of arXiv 2102.06171). The rate
is proportional to the batch size, and every run sees the same number of images.

The first of --rates comes first, with every lambda, so that --rates=0.1 is the
part of the study with the paper's learning rate; the others use every other
lambda. Two more runs clip the gradients of AdamW and LAMB at the smallest
lambda.

A run of 300 steps of 4096 images sees 1,228,800 images: at 7,000 images/s, 3
minutes. With the default options there are 82 runs per seed, or 4 hours; with
--rates=0.1, 34 runs or 2 hours, and with --lambdas 0.16 0.04 0.01 besides, 26
runs or 80 minutes. The network needs 1 million multiply-accumulates per image
of 12 pixels; with --config.model.width=1 --config.data.image_size=32
--config.data.eval_size=32 28 million."""
_SIZE = 12  # pixels


class Grid(NamedTuple):
  """What the study varies, besides the method.

  Attributes:
    batches: batch sizes.
    rates: peak learning rates for 256 images; the first one is the reference.
    lambdas: thresholds of AGC, from large to small.
    norms: thresholds of the global norm.
    steps: steps of the runs with the largest batch.
  """

  batches: Sequence[int]
  rates: Sequence[float]
  lambdas: Sequence[float]
  norms: Sequence[float]
  steps: int


_FULL = Grid(
  (64, 256, 1024, 4096),
  (0.1, 0.025, 0.4),
  (0.16, 0.08, 0.04, 0.02, 0.01),
  (1.0,),
  300,
)
_QUICK = Grid((64, 512), (0.1,), (0.16, 0.01), (1.0,), 12)


def main() -> int:
  """Reads the command line, then runs the study."""
  options = options_lib.read(_parser())
  runs = plan(options)
  from nfnets.studies import runner, trials

  return runner.study(
    runs, options.out, perform, agc_figure.describe, draw, trials.check
  )


def plan(options: options_lib.Options) -> list[results.Run]:
  """Returns the runs: seed by seed, the reference rate first."""
  own, grid = options.own, _QUICK if options.quick else _FULL
  grid = Grid(
    own.batches or grid.batches,
    own.rates or grid.rates,
    sorted(own.lambdas or grid.lambdas, reverse=True),
    own.norms or grid.norms,
    own.steps or grid.steps,
  )
  return [
    _run(options, grid, {**labels, 'seed': seed})
    for seed in range(options.seeds)
    for labels in _points(grid)
  ]


def perform(
  run: results.Run, folder: pathlib.Path, start: pathlib.Path | None
) -> dict[str, float]:
  """Trains a run; with AGC, measures what it clips."""
  from nfnets.studies import clipped, trials

  numbers = trials.train(run, folder, start)
  if run.settings.get('optimizer.clipping'):
    numbers |= clipped.measure(run, folder)
  return numbers


def draw(found: Sequence[results.Result], folder: pathlib.Path) -> None:
  """Draws the figure."""
  agc_figure.draw(found, folder / f'{NAME}.png')


def _points(grid: Grid) -> list[dict[str, results.Label]]:
  """Returns the labels of the runs of one seed, without the seed."""
  points: list[dict[str, results.Label]] = []
  for rate in grid.rates:
    reference = rate == grid.rates[0]
    for batch in grid.batches:
      at: dict[str, results.Label] = {'batch': batch, 'rate': rate}
      points += [
        {'method': agc_figure.BATCH_NORM, **at},
        {'method': agc_figure.NONE, **at},
      ]
      points += [
        {'method': agc_figure.GLOBAL_NORM, 'norm': norm, **at}
        for norm in grid.norms
      ]
      points += [
        {'method': agc_figure.AGC, 'lambda': clipping, **at}
        for clipping in grid.lambdas[:: 1 if reference else 2]
      ]
    if reference:
      points += [
        {'method': method, 'lambda': grid.lambdas[-1], 'batch': grid.batches[1]}
        for method in _OTHER_OPTIMIZERS
        if len(grid.batches) > 1
      ]
  return points


# Method -> its settings. Their rates don't depend on the batch size.
_OTHER_OPTIMIZERS: dict[str, dict[str, kinds.Value]] = {
  f'{agc_figure.AGC}, AdamW': {
    'optimizer.name': 'adamw',
    'optimizer.learning_rate': 0.001,
    'optimizer.learning_rate_batch': 0,
    'optimizer.weight_decay': 0.05,
  },
  f'{agc_figure.AGC}, LAMB': {
    'optimizer.name': 'lamb',
    'optimizer.learning_rate': 0.005,
    'optimizer.learning_rate_batch': 0,
    'optimizer.weight_decay': 0.05,
  },
}


def _run(
  options: options_lib.Options, grid: Grid, labels: Mapping[str, results.Label]
) -> results.Run:
  """Returns the run with these labels."""
  method, batch = str(labels['method']), int(labels['batch'])
  norm = method == agc_figure.BATCH_NORM
  fixed: dict[str, kinds.Value] = {
    **small.network(),
    **small.images(options.dataset, _SIZE),
    'model.width': 0.5,
    'optimizer.learning_rate_batch': 256,
    'optimizer.weight_decay': 5e-5,
  }
  varied: dict[str, kinds.Value] = {
    **small.length(grid.steps * max(grid.batches) // batch),
    'model.name': 'resnet50' if norm else 'nf_resnet50',
    # From 0, a short run with clipping would not learn: docs/training.md.
    'model.skip_gain_init': None if norm else 0.5,
    'optimizer.clipping': float(labels.get('lambda', 0.0)),
    'optimizer.clip_norm': float(labels.get('norm', 0.0)),
    **small.batches(batch),
    'seed': int(labels['seed']),
  }
  if 'rate' in labels:
    varied['optimizer.learning_rate'] = float(labels['rate'])
  varied |= _OTHER_OPTIMIZERS.get(method, {})
  return results.Run(labels, options_lib.combine(fixed, options, varied))


def _parser() -> argparse.ArgumentParser:
  parser = options_lib.make_parser(NAME, _DESCRIPTION)
  count, number = options_lib.at_least(1), options_lib.positive
  parser.add_argument(
    '--steps',
    metavar='N',
    type=count,
    help='steps with the largest batch; smaller batches see as many images'
    f' (default: {_FULL.steps})',
  )
  for name, kind, default, text in (
    ('batches', count, _FULL.batches, 'batch sizes, in ascending order'),
    ('rates', number, _FULL.rates, 'peak learning rates for 256 images'),
    ('lambdas', number, _FULL.lambdas, 'thresholds of AGC'),
    ('norms', number, _FULL.norms, 'thresholds of the global norm'),
  ):
    values = ' '.join(f'{x:g}' for x in default)
    parser.add_argument(
      f'--{name}',
      metavar='N' if kind is count else 'X',
      nargs='+',
      type=kind,
      help=f'{text} (default: {values})',
    )
  return parser


if __name__ == '__main__':
  cli.run(main)
