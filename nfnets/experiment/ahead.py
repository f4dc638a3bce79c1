"""--mode=compile: compiles a run's programs and reports what they need.

Nothing runs, and the devices need not be there. Times are estimates.
"""

import time
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from nfnets.analysis import collectives, estimates, macs
from nfnets.experiment import build, checks, fitting, inputs
from nfnets.experiment import steps as steps_lib
from nfnets.runtime import memory, topology


class _Sizes(NamedTuple):
  """What the programs depend on of a data set."""

  num_classes: int
  train: int
  evaluation: int


class _Step(NamedTuple):
  """A program to compile.

  Attributes:
    title: what it does.
    lowered: the program.
    flops: operations of its convolutions and matrix products on each device.
    dtype: their dtype.
    remedy: the settings that reduce its memory.
    beside: bytes of other arrays on each device while it runs.
  """

  title: str
  lowered: jax.stages.Lowered
  flops: int
  dtype: str
  remedy: str
  beside: int = 0


# Images in the training and in the validation set of ILSVRC 2012.
_IMAGENET = _Sizes(1000, 1_281_167, 50_000)


def report(config: ml_collections.ConfigDict, target: str | None) -> int:
  """Prints memory, operations and collectives of both programs.

  Args:
    config: the settings.
    target: a topology to compile for, see `topology.target_devices`; None: the
      devices of this machine.

  Returns:
    The exit status.

  Raises:
    UserError: the topology is unknown, or a program does not fit.
  """
  checks.check(config)
  targets = topology.target_devices(target) if target else jax.devices()
  build.check_batch_size(config, len(targets))
  sizes = _sizes(config)
  schedule = build.make_schedule(config, build.lengths(config, sizes.train))
  # Their values do not change what the program needs.
  weights = np.ones(sizes.num_classes, np.float32)
  steps = steps_lib.make_steps(
    config,
    sizes.num_classes,
    schedule,
    targets,
    class_weights=None if config.train.class_weights == 'none' else weights,
  )
  count = sum(
    x.size for x in jax.tree.leaves(steps_lib.state_shapes(steps).params)
  )
  print(
    f'{config.model.name}: {count:,} parameters, for {len(targets)} x'
    f' {targets[0].device_kind}'
  )
  _report_train(steps, target)
  _report_evaluation(steps, sizes.evaluation, target)
  return 0


def _sizes(config: ml_collections.ConfigDict) -> _Sizes:
  """Reads the data set's sizes; ImageNet's are known without it."""
  if config.dataset == 'imagenet2012':
    return _IMAGENET
  train, evaluation = (
    inputs.load_source(config, x) for x in ('train', 'valid')
  )
  return _Sizes(train.num_classes, len(train), len(evaluation))


def _report_train(steps: steps_lib.Steps, target: str | None) -> None:
  config = steps.config
  rows = config.train.batch_size // steps.device_count
  size = inputs.image_size(config, steps.model)
  step = _Step(
    f'train step: {rows} images of {size} px on each device',
    steps_lib.lower_train(steps),
    2 * macs.count_macs(steps.train, *steps_lib.train_arguments(steps)),
    config.train.dtype,
    fitting.less_training(config),
  )
  _report(step, target, _device_kind(steps))


def _report_evaluation(
  steps: steps_lib.Steps, examples: int, target: str | None
) -> None:
  config, model, count = steps.config, steps.model, steps.device_count
  rows = inputs.eval_batch_size(config, examples, count) // count
  size = inputs.eval_size(config, model)
  step = _Step(
    f'evaluation step: {rows} images of {size} px on each device',
    steps_lib.lower_evaluation(
      config, model, steps.evaluation, examples, steps.targets
    ),
    2 * rows * macs.model_macs(model, size),
    'float32',
    fitting.less_evaluation(config, examples, count),
    fitting.beside_evaluation(steps),
  )
  _report(step, target, _device_kind(steps))


def _device_kind(steps: steps_lib.Steps) -> str:
  return (steps.targets or jax.devices())[0].device_kind


def _report(step: _Step, target: str | None, device: str) -> None:
  """Compiles a program and prints what it needs.

  Raises:
    UserError: the compiler finds that it does not fit.
  """
  print(step.title, flush=True)
  start = time.perf_counter()
  with fitting.explained(step.remedy, lambda: 'this program does not fit'):
    compiled = topology.compile_for(step.lowered, target)
  seconds = time.perf_counter() - start
  text = compiled.as_text()
  exchanged = collectives.collective_bytes(text)
  estimate = estimates.describe(text, device, step.flops, step.dtype)
  lines = {
    'memory': _memory(step, compiled, target),
    'FLOPs': f'{step.flops:.3g} in convolutions and matrix products',
    'collectives': ', '.join(
      f'{kind} {fitting.size_text(size)}' for kind, size in exchanged.items()
    )
    or 'none',
    'estimate': estimate,
    'compiled in': f'{seconds:.0f} s',
  }
  for name, value in lines.items():
    if value:
      print(f'  {name:<11}  {value}', flush=True)


def _memory(
  step: _Step, compiled: jax.stages.Compiled, target: str | None
) -> str:
  """Describes the memory that a program needs and that there is.

  Raises:
    UserError: it does not fit.
  """
  need = memory.program_size(compiled, step.beside)
  free = topology.usable_memory(target) if target else memory.free()
  fitting.check_fits(step.title, need, free, step.remedy)
  if target and free is None:
    room = 'the compiler finds that it fits'
  else:
    room = fitting.describe_free(free)
  return f'{fitting.size_text(need)} on each device; {room}'
