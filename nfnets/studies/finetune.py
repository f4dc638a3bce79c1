"""Fine-tuning: batch-norm ResNets against NF-ResNets of the same size.

python -m nfnets.studies.finetune [--pretrain=NAME] [--dataset=NAME]
    [--seeds=N] [--quick] [--out=DIR]

References:
  Brock et al, `High-Performance Large-Scale Image Recognition Without
  Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, table 4 and
  appendix A.5.
"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nfnets import cli
from nfnets.experiment import kinds
from nfnets.studies import halves, results, small, summary
from nfnets.studies import options as options_lib

NAME = 'finetune'
_DESCRIPTION = """\
Trains ResNets with batch normalization and NF-ResNets of the same size on one
data set, and fine-tunes them on another at two image sizes (table 4 of arXiv
2102.06171). No network is clipped, as published. Without --pretrain, --dataset
must be digits: the networks are trained on the digits 0 to 4 and fine-tuned on
5 to 9.

Training takes 512,000 images for each network and seed, and fine-tuning 64,000
at each size. There are 4 networks, two of them with 8 blocks, so 3 seeds take 8
million images."""
_NETWORKS = {'batch norm': 'resnet50', 'normalizer-free': 'nf_resnet50'}


class _Plan(NamedTuple):
  """The size of the study.

  Attributes:
    depths: blocks of each stage.
    sizes: sides of the images in fine-tuning, in pixels; the first is also that
      of the training before.
    steps: steps of training and of fine-tuning.
    batches: their batch sizes.
  """

  depths: Sequence[tuple[int, ...]]
  sizes: Sequence[int]
  steps: tuple[int, int]
  batches: tuple[int, int]


_FULL = _Plan(((1, 1, 1, 1), (2, 2, 2, 2)), (12, 16), (2000, 500), (256, 128))
_QUICK = _Plan(((1, 1, 1, 1),), (12,), (24, 12), (64, 64))


def main() -> int:
  """Reads the command line, then runs the study."""
  parser = _parser()
  options = options_lib.read(parser)
  if not options.own.pretrain and options.dataset != 'digits':
    parser.error(f'--dataset={options.dataset} needs --pretrain')
  runs = plan(options)
  from nfnets.studies import runner, trials

  if not options.own.pretrain:
    halves.write(_halves(options))
  return runner.study(
    runs, options.out, trials.train, describe, draw, trials.check
  )


def plan(options: options_lib.Options) -> list[results.Run]:
  """Returns the runs: seed by seed, each training before its fine-tuning."""
  own, sizes = options.own, _QUICK if options.quick else _FULL
  folder = _halves(options)
  before = own.pretrain or f'folder:{folder / halves.FIRST}'
  after = (
    options.dataset if own.pretrain else f'folder:{folder / halves.SECOND}'
  )
  runs = []
  for seed in range(options.seeds):
    for depth in sizes.depths:
      for network in _NETWORKS:
        labels: dict[str, results.Label] = {
          'network': network,
          'blocks': sum(depth),
          'seed': seed,
        }
        first = results.Run(
          {'phase': 'training', **labels},
          options_lib.combine(
            _training(sizes, before), options, _varied(network, depth, seed)
          ),
          keep=True,
        )
        runs.append(first)
        for size in sizes.sizes:
          settings = options_lib.combine(
            _fine_tuning(sizes, after, size),
            options,
            _varied(network, depth, seed),
          )
          runs.append(
            results.Run(
              {'phase': 'fine-tuning', **labels, 'size': size},
              settings,
              start=first.name,
            )
          )
  return runs


def _halves(options: options_lib.Options) -> pathlib.Path:
  return options.out.absolute() / 'data'


def _varied(
  network: str, depth: tuple[int, ...], seed: int
) -> dict[str, kinds.Value]:
  varied: dict[str, kinds.Value] = {
    'model.name': _NETWORKS[network],
    'model.depth': depth,
    'seed': seed,
  }
  if network != 'batch norm':
    varied['model.skip_gain_init'] = 0.5
  return varied


def _training(sizes: _Plan, dataset: str) -> Mapping[str, kinds.Value]:
  return {
    **_images(dataset, sizes.sizes[0]),
    **small.length(sizes.steps[0]),
    'optimizer.learning_rate': 0.1,
    'optimizer.learning_rate_batch': 256,
    'optimizer.weight_decay': 5e-5,
    **small.batches(sizes.batches[0]),
    'train.label_smoothing': 0.0,
  }


def _fine_tuning(
  sizes: _Plan, dataset: str, size: int
) -> Mapping[str, kinds.Value]:
  """Returns the published recipe, see `recipes.fine_tuning`, made shorter.

  The rate is lower: the published one is for batches of 2048 images.
  """
  return {
    **_images(dataset, size),
    **small.length(sizes.steps[1]),
    'optimizer.warmup_steps': sizes.steps[1] // 3,
    'optimizer.learning_rate': 0.02,
    'optimizer.learning_rate_batch': 0,
    'optimizer.weight_decay': 0.0,
    **small.batches(sizes.batches[1]),
    'train.ema_decay': 0.99,
  }


def _images(dataset: str, size: int) -> dict[str, kinds.Value]:
  settings = {**small.network(), **small.images(dataset, size)}
  settings['model.width'] = 0.5
  if dataset.endswith((halves.FIRST, halves.SECOND)):
    settings |= {'augment.flip': False, 'data.area_range': (0.6, 1.0)}
  return settings


def describe(found: Sequence[results.Result]) -> str:
  """Formats the accuracies, one row per network."""
  sizes = _sizes(found)
  rows = []
  for network, blocks, group in _by_network(found):
    training = results.select(group, phase='training')
    rows.append(
      (
        network,
        f'{blocks:g}',
        summary.percent(summary.estimate(training, 'top1')),
        *(summary.percent(_accuracy(group, size)) for size in sizes),
      )
    )
  header = ('network', 'blocks', 'before, on its own data')
  return summary.table(
    (*header, *(f'fine-tuned, {size} px' for size in sizes)), rows
  )


def draw(found: Sequence[results.Result], folder: pathlib.Path) -> None:
  """Draws the accuracy after fine-tuning by the size of the images."""
  from nfnets.studies import figure

  sizes = _sizes(found)
  curves = [
    figure.Curve(
      f'{network}, {blocks:g} blocks',
      sizes,
      [_accuracy(group, size) for size in sizes],
    )
    for network, blocks, group in _by_network(found)
  ]

  def panel(axes: 'figure.axes_lib.Axes') -> None:
    figure.draw_curves(axes, curves)
    axes.set_xticks(sizes)
    axes.set_xlabel('side of the images (pixels)')
    axes.set_ylabel('accuracy after fine-tuning (%)')

  figure.save(folder / f'{NAME}.png', [panel], f'Bars: {summary.INTERVAL}')


def _accuracy(
  group: Sequence[results.Result], size: results.Label
) -> summary.Estimate:
  """Estimates the accuracy of the averaged weights, as published."""
  tuned = results.select(group, phase='fine-tuning', size=size)
  return summary.estimate(tuned, 'ema_top1')


def _sizes(found: Sequence[results.Result]) -> list[int]:
  return sorted({int(x.labels['size']) for x in found if 'size' in x.labels})


def _by_network(
  found: Sequence[results.Result],
) -> list[tuple[str, int, list[results.Result]]]:
  keys = dict.fromkeys(
    (str(x.labels['network']), int(x.labels['blocks'])) for x in found
  )
  return [
    (network, blocks, results.select(found, network=network, blocks=blocks))
    for network, blocks in keys
  ]


def _parser() -> argparse.ArgumentParser:
  parser = options_lib.make_parser(NAME, _DESCRIPTION)
  parser.add_argument(
    '--pretrain',
    metavar='NAME',
    help='the data set to train on before fine-tuning on --dataset',
  )
  return parser


if __name__ == '__main__':
  cli.run(main)
