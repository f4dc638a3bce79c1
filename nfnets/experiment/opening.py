"""What a run prints before its first step."""

import logging
import math
from collections.abc import Sequence

import jax
import ml_collections

from nfnets import errors
from nfnets.analysis import macs
from nfnets.data import growth
from nfnets.data import source as source_lib
from nfnets.experiment import build, inputs
from nfnets.experiment import config as config_lib
from nfnets.experiment import steps as steps_lib
from nfnets.training import devices

_log = logging.getLogger(__name__)

# A gain of this size is not small, and a run this many times as long as the
# skip gains take to get there trains well.
_GROWN, _LONG = 0.5, 10

COMPILING = 'compiling  the train and the evaluation step'
SHORTER = (
  'to train for minutes instead, choose a smaller config.model.name, reduce'
  ' config.data.image_size or config.train.epochs, or start from'
  ' --config=experiments/small_data.py'
)


def announce(text: str) -> None:
  """Prints text immediately, in process 0.

  Args:
    text: one or more lines.
  """
  if devices.is_primary():
    print(text, flush=True)


def describe_data(
  config: ml_collections.ConfigDict,
  source: source_lib.Source,
  eval_source: source_lib.Source,
  test: source_lib.Source | None = None,
  *,
  length: build.Lengths,
) -> str:
  """Describes the images and the length of the run, in two lines.

  Args:
    config: the settings.
    source: the split to train on.
    eval_source: the held-out split.
    test: the split to evaluate on at the end, if it is another.
    length: the run's length.
  """
  examples = config.train.batch_size * length.total
  name = errors.printable(config.dataset)
  after = f', {len(test):,} for the end ({test.split})' if test else ''
  return '\n'.join(
    [
      f'data       {name}: {len(source):,} images ({source.split}) in'
      f' {source.num_classes:,} classes, {len(eval_source):,} held out'
      f' ({eval_source.split}){after}',
      f'training   {length.total:,} steps of {config.train.batch_size:,}'
      f' images, {examples / len(source):.4g} epochs',
    ]
  )


def describe_sizes(stages: Sequence[growth.Stage]) -> str:
  """Describes the sizes of the training images in one line.

  Args:
    stages: from `inputs.image_sizes`.
  """
  sizes = ', '.join(
    f'{stage.size} px'
    + (f' from step {stage.first + 1:,} on' if stage.first else '')
    for stage in stages
  )
  return f'images     {sizes}'


def describe_network(steps: steps_lib.Steps) -> str:
  """Describes the model, the devices and the optimizer in a few lines.

  Args:
    steps: the programs.
  """
  config, model = steps.config, steps.model
  size = inputs.image_size(config, model)
  params = steps_lib.state_shapes(steps).params
  count = sum(x.size for x in jax.tree.leaves(params))
  gmacs = macs.model_macs(model, size) / 1e9
  kinds = sorted({device.device_kind for device in jax.devices()})
  processes = jax.process_count()
  hosts = f' in {processes} processes' if processes > 1 else ''
  lines = [
    f'model      {config.model.name}: {count:,} parameters,'
    f' {gmacs:.3f} GMACs at {size} px',
    f'devices    {jax.device_count()} x {", ".join(kinds)}{hosts}',
  ]
  lines += [
    f'optimizer  {group.name}: {group.tensors} tensors,'
    f' {group.parameters:,} parameters: {group.applies}'
    for group in build.describe_groups(config, model, params)
  ]
  return '\n'.join(lines)


def warn_of_skip_gains(steps: steps_lib.Steps, length: build.Lengths) -> None:
  """Warns if clipping keeps the skip gains near 0 for much of a short run.

  A skip gain that starts at 0 can grow by at most rate * clipping * clip_eps
  per step and, above clip_eps, by the factor 1 + rate * clipping, where rate is
  the learning rate / (1 - momentum).

  Args:
    steps: the programs.
    length: the run's length.
  """
  config, model = steps.config, steps.model.config
  optimizer = config.optimizer
  has_gains = model.skip_gain or model.standardize
  clips = optimizer.clipping and optimizer.learning_rate
  if config.init_from or model.skip_gain_init or not (has_gains and clips):
    return
  rate = config_lib.peak_learning_rate(config) / (1 - optimizer.momentum)
  slow = 1 + math.log(_GROWN / optimizer.clip_eps)
  slow /= rate * optimizer.clipping
  if length.total < _LONG * slow and devices.is_primary():
    _log.warning(
      'the skip gains start at 0, and clipping lets them grow slowly: %.0f of'
      ' %d steps would pass before they matter. In a run this short, set'
      ' --config.model.skip_gain_init=0.5 (now 0) or'
      ' --config.optimizer.clipping=0 (now %g)',
      *(min(slow, length.total), length.total, optimizer.clipping),
    )
