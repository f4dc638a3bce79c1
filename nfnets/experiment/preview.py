"""Draws the images of one training step.

python -m nfnets.augment --config=experiments/nfnet_f0.py --out=grid.png
    [--step=K] [--count=N] [--config.key=value ...]
"""

import argparse
import math
from collections.abc import Callable, Sequence

import ml_collections
import numpy as np

from nfnets import files
from nfnets.experiment import command_line


def main() -> None:
  """Reads the command line, then writes a grid of images and captions."""
  options, rest = _parser().parse_known_args()
  out = files.user_path(options.out, '--out')
  config, _ = command_line.parse_config(rest)

  # Imported after the settings are checked: --help and errors are instant.
  from nfnets.data import grid
  from nfnets.runtime import compilation

  compilation.enable_compilation_cache()
  images, captions = examples(config, options.step, options.count)
  grid.write_grid(out, images, captions)
  print(f'{len(images)} examples of step {options.step}: {out}')


def examples(
  config: ml_collections.ConfigDict, step: int, count: int
) -> tuple[np.ndarray, list[str]]:
  """Returns the first examples of a step's batch, as the network sees them.

  Args:
    config: the settings.
    step: number of the training step, from 0.
    count: number of examples; at most the batch size are returned.

  Returns:
    uint8[n, S, S, 3], without normalization, and n captions.
  """
  import jax

  from nfnets.data import growth
  from nfnets.experiment import build, inputs
  from nfnets.runtime import platforms

  platforms.check()
  source = inputs.load_source(config, 'train')
  model = build.make_model(config, source.num_classes)
  preprocess = inputs.make_preprocess(config, model)
  # An image depends on its position in the run, not on the batch size: with
  # small batches, the rest of a large one need not be decoded.
  count = min(count, config.train.batch_size)
  size = math.gcd(count, config.train.batch_size)
  first = step * config.train.batch_size // size
  small = config.copy_and_resolve_references()
  small.train.batch_size = size
  total = build.lengths(config, len(source)).total
  stages = inputs.image_sizes(config, model, total)
  batches = inputs.train_batches(
    small,
    source,
    model,
    preprocess.images_per_example,
    growth.constant(growth.size_of(stages, step)),
  )
  parts = [batches[first + part] for part in range(count // size)]
  key = jax.random.key(config.seed, impl='threefry2x32')
  images, labels = jax.jit(preprocess.apply)(
    jax.random.fold_in(key, step),
    np.concatenate([part['image'] for part in parts]),
    np.concatenate([part['label'] for part in parts]),
    np.arange(count, dtype=np.int32),
  )
  levels = np.asarray(images) * model.config.std + model.config.mean
  levels = np.clip(np.rint(255 * levels), 0, 255).astype(np.uint8)
  return levels, [caption(k, source.class_names) for k in np.asarray(labels)]


def caption(label: np.ndarray, class_names: Sequence[str]) -> str:
  """Describes a soft label, float32[K]: 'tench' or '62% tench, 38% goose'."""
  order = np.argsort(-label, kind='stable')
  shown = [k for k in order if round(100 * label[k]) > 0]
  if len(shown) == 1:
    return class_names[shown[0]]
  return ', '.join(f'{label[k]:.0%} {class_names[k]}' for k in shown)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.augment',
    allow_abbrev=False,
    description='Draws the first examples of a training step as the network'
    ' sees them: cropped, flipped, mixed and augmented, with soft labels.',
  )
  # For --help only: command_line.parse_config reads them.
  parser.add_argument_group(
    'settings',
    '--config=FILE[:VARIANT] is the experiment, such as'
    ' experiments/nfnet_f0.py; --config.KEY=VALUE changes one of its settings,'
    ' such as --config.augment.mixup_alpha=0.2',
  )
  parser.add_argument(
    '--out',
    metavar='FILE',
    default='grid.png',
    help='PNG to write (default: %(default)s)',
  )
  parser.add_argument(
    '--step',
    metavar='K',
    type=_at_least(0),
    default=0,
    help='number of the training step, from 0 (default: %(default)s)',
  )
  parser.add_argument(
    '--count',
    metavar='N',
    type=_at_least(1),
    default=64,
    help='number of examples, at most the batch size (default: %(default)s)',
  )
  return parser


def _at_least(least: int) -> Callable[[str], int]:
  def integer(text: str) -> int:
    value = int(text)
    if value < least:
      raise argparse.ArgumentTypeError(f'{value} is below {least}')
    return value

  return integer
