"""What a run prints before its first step."""

import jax
import ml_collections

from nfnets import errors
from nfnets.analysis import macs
from nfnets.data import source as source_lib
from nfnets.experiment import build, inputs
from nfnets.experiment import steps as steps_lib
from nfnets.training import devices

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
  length: build.Lengths,
) -> str:
  """Describes the images and the length of the run, in two lines.

  Args:
    config: the settings.
    source: the split to train on.
    eval_source: the held-out split.
    length: the run's length.
  """
  examples = config.train.batch_size * length.total
  name = errors.printable(config.dataset)
  return '\n'.join(
    [
      f'data       {name}: {len(source):,} images ({source.split}) in'
      f' {source.num_classes:,} classes, {len(eval_source):,} held out'
      f' ({eval_source.split})',
      f'training   {length.total:,} steps of {config.train.batch_size:,}'
      f' images, {examples / len(source):.4g} epochs',
    ]
  )


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
