"""Signal propagation at initialization, block by block.

python -m nfnets.studies.signal_propagation [--models NAME ...]
    [--dataset=gaussian|NAME] [--size=PIXELS] [--seeds=N] [--quick] [--out=DIR]

References:
  Brock et al, `Characterizing signal propagation to close the performance gap
  in unnormalized ResNets <https://arxiv.org/abs/2101.08692>`_, 2021, figures 1
  to 3.
"""

import argparse
import math
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nfnets import cli
from nfnets.studies import options as options_lib
from nfnets.studies import results

if TYPE_CHECKING:
  from matplotlib import axes as axes_lib

NAME = 'signal_propagation'
PLAIN = ':plain'
"""Ends the name of a model whose filters are He's, without standardization."""
MODELS = ('resnet50', 'nf_resnet50', f'nf_resnet50{PLAIN}', 'nfnet_f0')
_DESCRIPTION = """\
Measures the mean and the variance of the activations of untrained networks,
block by block, and draws them beside the analytic variances (the figures 1 to 3
of arXiv 2101.08692). Takes about a minute per seed on 2 cores."""
_MAX_ROWS = 16  # of a model in the table
# Name of a number -> the title of its panel, and the analytic one.
_PANELS = {
  'square_mean': ('average squared channel mean', ''),
  'variance': ('average channel variance', 'analytic'),
  'residual': ('residual branch variance', 'analytic_residual'),
}


def main() -> int:
  """Reads the command line, then runs the study."""
  options = options_lib.read(_parser())
  runs = plan(options)
  from nfnets.studies import runner, signals

  return runner.study(runs, options.out, signals.measure, describe, draw)


def plan(options: options_lib.Options) -> list[results.Run]:
  """Returns one run for each seed and model."""
  own = options.own
  runs = []
  for seed in range(options.seeds):
    for model in own.models or MODELS:
      fixed = {
        'data.eval_preset': 'timm',
        'train.batch_size': own.images or (4 if options.quick else 8),
        'train.dtype': 'float32',
      }
      varied = {
        'dataset': options.dataset,
        'model.name': model.removesuffix(PLAIN),
        'data.image_size': own.size,
        'seed': seed,
      }
      runs.append(
        results.Run(
          {'model': model, 'images': options.dataset, 'seed': seed},
          options_lib.combine(fixed, options, varied),
        )
      )
  return runs


def describe(found: Sequence[results.Result]) -> str:
  """Formats a table with means over the seeds, block by block."""
  from nfnets.studies import summary

  rows = []
  for model, group in _by_model(found):
    blocks = _blocks(group)
    for block in range(0, blocks, -(-blocks // _MAX_ROWS)):
      numbers = [
        summary.estimate(group, f'{name}_{block}').mean
        for name in ('square_mean', 'variance', 'analytic', 'expected')
        + ('residual', 'analytic_residual')
      ]
      cells = ('-' if x != x else f'{x:.4g}' for x in numbers)
      rows.append((model, f'{block}', *cells))
  variances = ('squared mean', 'variance', 'analytic', 'assumed by beta')
  header = ('model', 'block', *variances, 'residual', 'analytic')
  return summary.table(header, rows)


def draw(found: Sequence[results.Result], folder: pathlib.Path) -> None:
  """Draws the three panels of the paper's figures."""
  from nfnets.studies import figure, summary

  images = found[0].labels['images'] if found else ''
  panels = [
    lambda axes, number=number: _draw_panel(axes, number, found)
    for number in _PANELS
  ]
  seeds = len({x.labels['seed'] for x in found})
  caption = (
    f'Untrained networks on images: {images}. Dashed: analytic, for Gaussian'
    f' images. Mean over {seeds} seed(s); bars: {summary.INTERVAL}.'
  )
  figure.save(folder / f'{NAME}.png', panels, caption)


def _draw_panel(
  axes: 'axes_lib.Axes', number: str, found: Sequence[results.Result]
) -> None:
  from nfnets.studies import figure, summary

  title, analytic = _PANELS[number]
  curves = []
  for model, group in _by_model(found):
    xs = range(_blocks(group))
    ys = [summary.estimate(group, f'{number}_{x}') for x in xs]
    curves.append(figure.Curve(model, xs, ys))
  axes.set_yscale('log')
  figure.draw_curves(axes, curves, percent=False)
  for index, (_, group) in enumerate(_by_model(found)):
    numbers = group[0].numbers
    if analytic and f'{analytic}_0' in numbers:
      line = [
        numbers.get(f'{analytic}_{x}', math.nan) for x in range(_blocks(group))
      ]
      axes.plot(line, '--', color=figure.color(index), linewidth=1)
  axes.set_title(title, fontsize=9)
  axes.set_xlabel('block')
  figure.use_integers(axes)


def _by_model(
  found: Sequence[results.Result],
) -> list[tuple[str, list[results.Result]]]:
  models = dict.fromkeys(str(x.labels['model']) for x in found)
  return [(model, results.select(found, model=model)) for model in models]


def _blocks(group: Sequence[results.Result]) -> int:
  """Returns the number of blocks that were measured."""
  names = group[0].numbers
  return sum(name.startswith('variance_') for name in names)


def _parser() -> argparse.ArgumentParser:
  parser = options_lib.make_parser(NAME, _DESCRIPTION, options_lib.GAUSSIAN)
  parser.add_argument(
    '--models',
    metavar='NAME',
    nargs='+',
    help=f'models, see python -m nfnets.models; NAME{PLAIN} has filters without'
    f' weight standardization (default: {", ".join(MODELS)})',
  )
  parser.add_argument(
    '--size',
    metavar='PIXELS',
    type=options_lib.at_least(1),
    default=0,
    help="height and width of the images (default: the model's training size)",
  )
  parser.add_argument(
    '--images',
    metavar='N',
    type=options_lib.at_least(1),
    help='number of images (default: 8, or 4 with --quick)',
  )
  return parser


if __name__ == '__main__':
  cli.run(main)
