"""Checks whether a run fits in memory, and explains it if memory runs out.

Both end in one line with the settings that need less memory.
"""

import contextlib
from collections.abc import Callable, Iterator

import jax
import ml_collections

from nfnets import errors, models
from nfnets.experiment import inputs
from nfnets.experiment import steps as steps_lib
from nfnets.runtime import memory
from nfnets.training import devices
from nfnets.training import step as step_lib

_UNITS = {'B': 1, 'KiB': 2**10, 'MiB': 2**20, 'GiB': 2**30}


def check_training(steps: steps_lib.Steps, examples: int) -> str:
  """Compiles a run's programs and checks that they fit.

  Args:
    steps: the programs.
    examples: number of images in the held-out split.

  Returns:
    The memory that they need and that a device has left, in one line.

  Raises:
    UserError: one of them does not fit; the same in all processes.
  """
  config, model = steps.config, steps.model
  free = _free()
  training = memory.program_size(steps_lib.lower_train(steps).compile())
  check_fits('a train step', training, free, less_training(config))
  evaluation = _check_evaluation(
    config, model, steps.evaluation, examples, free, beside_evaluation(steps)
  )
  return (
    f'{size_text(training)} for a train step, {size_text(evaluation)} for an'
    f' evaluation step on each device; {describe_free(free)}'
  )


def check_evaluation(
  config: ml_collections.ConfigDict,
  model: models.Model,
  eval_step: step_lib.EvalStep,
  examples: int,
) -> None:
  """Compiles the evaluation step and checks that it fits.

  Args:
    config: the settings.
    model: the network in training.
    eval_step: from `steps.make_eval_step`.
    examples: number of images in the split.

  Raises:
    UserError: it does not fit; the same in all processes.
  """
  beside = _second_weights(config, model)
  _check_evaluation(config, model, eval_step, examples, _free(), beside)


def _check_evaluation(
  config: ml_collections.ConfigDict,
  model: models.Model,
  eval_step: step_lib.EvalStep,
  examples: int,
  free: memory.Free | None,
  beside: int,
) -> int | None:
  """Returns the bytes for an evaluation, `beside` bytes included."""
  lowered = steps_lib.lower_evaluation(config, model, eval_step, examples)
  need = memory.program_size(lowered.compile(), beside)
  remedy = less_evaluation(config, examples, jax.device_count())
  check_fits('an evaluation step', need, free, remedy)
  return need


def beside_evaluation(steps: steps_lib.Steps) -> int:
  """Returns the bytes on each device beside the evaluation step's own.

  These are the train state, and the weights that are evaluated next if the run
  keeps an average.
  """
  state = _size(steps_lib.state_shapes(steps))
  return state + _second_weights(steps.config, steps.model)


def _second_weights(
  config: ml_collections.ConfigDict, model: models.Model
) -> int:
  if not config.train.ema_decay:
    return 0
  return _size(steps_lib.folded_shapes(model, inputs.eval_size(config, model)))


def check_fits(
  program: str, need: int | None, free: memory.Free | None, remedy: str
) -> None:
  """Checks that a program fits in memory, as far as both are known.

  Raises:
    UserError: it needs more than there is.
  """
  if need and free and need > free.size:
    raise errors.UserError(
      f'{program} needs {size_text(need)} on each device, but only'
      f' {size_text(free.size)} is free {free.place}: {remedy}'
    )


def _size(tree: object) -> int:
  """Returns the bytes of a pytree of shapes."""
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _free() -> memory.Free | None:
  """Returns the least memory that a device of any process has left."""
  free = memory.free()
  return free and free._replace(size=devices.smallest(free.size))


def describe_free(free: memory.Free | None) -> str:
  """Describes the memory that a device has left."""
  return (
    f'{size_text(free.size)} free {free.place}' if free else 'free: unknown'
  )


def size_text(size: int | None) -> str:
  """Formats a number of bytes; None if it is unknown."""
  if size is None:
    return 'an unknown amount'
  unit = next((u for u in _UNITS if size < 1024 * _UNITS[u]), 'GiB')
  return f'{size / _UNITS[unit]:.{2 if unit == "GiB" else 0}f} {unit}'


def less_training(config: ml_collections.ConfigDict) -> str:
  """Returns the settings that reduce the memory for training."""
  settings = [
    f'reduce config.train.batch_size={config.train.batch_size} or'
    ' config.data.image_size',
    f'increase config.train.accumulation={config.train.accumulation}',
  ]
  if not config.model.remat:
    settings.append('set config.model.remat=true')
  return ', '.join(settings[:-1]) + f', or {settings[-1]}'


def less_evaluation(
  config: ml_collections.ConfigDict, examples: int, device_count: int
) -> str:
  """Returns the settings that reduce the memory for evaluation."""
  rows = inputs.eval_batch_size(config, examples, device_count)
  smaller_images = 'reduce config.data.eval_size'
  if rows == device_count:
    return smaller_images
  return f'set config.eval.batch_size below {rows}, or {smaller_images}'


@contextlib.contextmanager
def explained(remedy: str, outcome: Callable[[], str]) -> Iterator[None]:
  """Turns an out-of-memory error into one line.

  Args:
    remedy: the settings that reduce the memory.
    outcome: returns what became of the run.

  Raises:
    UserError: memory ran out inside the context.
  """
  try:
    yield
  except (jax.errors.JaxRuntimeError, MemoryError) as error:
    reason = str(error).partition('\n')[0] or 'MemoryError'
    if isinstance(error, RuntimeError) and 'RESOURCE_EXHAUSTED' not in reason:
      raise
    raise errors.UserError(
      f'out of memory ({reason}); {outcome()}: {remedy}'
    ) from error
