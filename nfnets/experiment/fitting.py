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

_GIB = 2**30


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
  _check('a train step', training, free, _less_training(config))
  # The train state stays in memory during an evaluation.
  waiting = _size(steps_lib.state_shapes(steps))
  evaluation = _check_evaluation(
    config, model, steps.evaluation, examples, free, waiting
  )
  if training is None or evaluation is None:
    return 'not reported by this platform'
  needs = (
    f'{_gib(training)} for training, {_gib(evaluation)} for evaluation on each'
    ' device'
  )
  return f'{needs}; {_gib(free.size)} are free {free.place}' if free else needs


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
  _check_evaluation(config, model, eval_step, examples, _free(), waiting=0)


def _check_evaluation(
  config: ml_collections.ConfigDict,
  model: models.Model,
  eval_step: step_lib.EvalStep,
  examples: int,
  free: memory.Free | None,
  waiting: int,
) -> int | None:
  """Returns the bytes for an evaluation, `waiting` bytes included."""
  lowered = steps_lib.lower_evaluation(config, model, eval_step, examples)
  need = memory.program_size(lowered.compile())
  if need is None:
    return None
  need += waiting
  if config.train.ema_decay:
    # The program's own count has one of the two sets of weights.
    size = inputs.eval_size(config, model)
    need += _size(steps_lib.folded_shapes(model, size))
  remedy = _less_evaluation(config, examples)
  _check('an evaluation step', need, free, remedy)
  return need


def _check(
  program: str, need: int | None, free: memory.Free | None, remedy: str
) -> None:
  if need and free and need > free.size:
    raise errors.UserError(
      f'{program} needs {_gib(need)} on each device, but {_gib(free.size)} are'
      f' free {free.place}: {remedy}'
    )


def _size(tree: object) -> int:
  """Returns the bytes of a pytree of shapes."""
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _free() -> memory.Free | None:
  """Returns the least memory that a device of any process has left."""
  free = memory.free()
  return free and free._replace(size=devices.smallest(free.size))


def _gib(size: int) -> str:
  return f'{size / _GIB:.2f} GiB'


def _less_training(config: ml_collections.ConfigDict) -> str:
  """Returns the settings that reduce the memory for training."""
  settings = [
    f'reduce config.train.batch_size={config.train.batch_size} or'
    ' config.data.image_size',
    f'increase config.train.accumulation={config.train.accumulation}',
  ]
  if not config.model.remat:
    settings.append('set config.model.remat=true')
  return ', '.join(settings[:-1]) + f', or {settings[-1]}'


def _less_evaluation(config: ml_collections.ConfigDict, examples: int) -> str:
  """Returns the settings that reduce the memory for evaluation."""
  rows = inputs.eval_batch_size(config, examples, jax.device_count())
  return (
    f'set config.eval.batch_size below {rows}, or reduce config.data.eval_size'
  )


@contextlib.contextmanager
def explained(
  config: ml_collections.ConfigDict, latest_step: Callable[[], int | None]
) -> Iterator[None]:
  """Turns an error of a device without memory into one line.

  Args:
    config: the settings.
    latest_step: returns the step of the latest checkpoint, or None.

  Raises:
    UserError: memory ran out inside the context.
  """
  try:
    yield
  except (jax.errors.JaxRuntimeError, MemoryError) as error:
    reason = str(error).partition('\n')[0]
    if (
      not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in reason
    ):
      raise
    step = latest_step()
    saved = 'nothing is saved' if step is None else f'step {step} is saved'
    raise errors.UserError(
      f'out of memory ({reason}); {saved}: {_less_training(config)}'
    ) from error
