"""Draws the images that a train step sees.

python -m nfnets.augment --config=experiments/nfnet_f0.py --out=grid.png
    [--step=K] [--count=N] [--config.key=value ...]
"""

import argparse
import math
from collections.abc import Callable, Sequence

import ml_collections
import numpy as np

from nfnets.experiment import command_line


def main() -> None:
  """Reads the command line, makes examples of one step and draws them."""
  options, rest = _parser().parse_known_args()
  config, _ = command_line.parse_config(rest)

  # JAX is imported here: --help and mistakes in settings answer at once.
  from nfnets.data import grid

  images, captions = examples(config, options.step, options.count)
  grid.write_grid(options.out, images, captions)
  print(f'{len(images)} examples of step {options.step}: {options.out}')


def examples(
  config: ml_collections.ConfigDict, step: int, count: int
) -> tuple[np.ndarray, list[str]]:
  """The first examples of a step's batch, as the network gets them.

  Args:
    config: the settings.
    step: number of the step, from 0.
    count: how many examples; a batch may have fewer.

  Returns:
    uint8[n, S, S, 3], normalisation undone, and n captions.
  """
  import jax

  from nfnets.experiment import build

  source = build.load_source(config, 'train')
  model = build.make_model(config, source.num_classes)
  preprocess = build.make_preprocess(config, model)
  # An image depends on its place among all images, not on the batch it comes
  # in: small batches spare the decoding of the rest of a large one.
  count = min(count, config.train.batch_size)
  size = math.gcd(count, config.train.batch_size)
  first = step * config.train.batch_size // size
  small = config.copy_and_resolve_references()
  small.train.batch_size = size
  batches = build.train_batches(
    small, source, model, preprocess.images_per_example
  )
  parts = [batches[first + part] for part in range(count // size)]
  images, labels = jax.jit(preprocess.apply)(
    jax.random.fold_in(jax.random.key(config.seed), step),
    np.concatenate([part['image'] for part in parts]),
    np.concatenate([part['label'] for part in parts]),
    np.arange(count, dtype=np.int32),
  )
  levels = np.asarray(images) * model.config.std + model.config.mean
  levels = np.clip(np.rint(255 * levels), 0, 255).astype(np.uint8)
  return levels, [caption(k, source.class_names) for k in np.asarray(labels)]


def caption(label: np.ndarray, class_names: Sequence[str]) -> str:
  """A soft label float32[K] in words: 'tench', or '62% tench, 38% goose'."""
  order = np.argsort(-label, kind='stable')
  shown = [k for k in order if round(100 * label[k]) > 0]
  if len(shown) == 1:
    return class_names[shown[0]]
  return ', '.join(f'{label[k]:.0%} {class_names[k]}' for k in shown)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.augment',
    allow_abbrev=False,
    description='Draws the first examples of a training step after cropping,'
    ' flipping, RandAugment and mixing, with their soft labels.',
  )
  # Read by command_line.parse_config; here for --help.
  parser.add_argument_group(
    'settings',
    '--config=FILE names an experiment, such as experiments/digits.py;'
    ' --config.key=value changes one of its settings, such as'
    ' --config.augment.mixup_alpha=0.2',
  )
  parser.add_argument(
    '--out', default='grid.png', help='PNG to write (default: %(default)s)'
  )
  parser.add_argument(
    '--step',
    type=_at_least(0),
    default=0,
    help='number of the training step (default: %(default)s)',
  )
  parser.add_argument(
    '--count',
    type=_at_least(1),
    default=64,
    help='examples to draw, at most the batch (default: %(default)s)',
  )
  return parser


def _at_least(least: int) -> Callable[[str], int]:
  def integer(text: str) -> int:
    value = int(text)
    if value < least:
      raise argparse.ArgumentTypeError(f'{value} is below {least}')
    return value

  return integer
