"""Trains a network: one run, from settings to checkpoints and metrics."""

import contextlib
import functools
import pathlib
from collections.abc import Callable

import jax
import ml_collections

from nfnets import errors, weights
from nfnets.data import source as source_lib
from nfnets.experiment import (
  build,
  checks,
  classes,
  fitting,
  inputs,
  opening,
  resume,
)
from nfnets.experiment import config as config_lib
from nfnets.experiment import steps as steps_lib
from nfnets.training import checkpoint, devices, loop, reporting
from nfnets.training import dataset as dataset_lib
from nfnets.training import state as state_lib
from nfnets.training import workdir as workdir_lib


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> int:
  """Trains from the beginning or from the latest checkpoint.

  Args:
    config: the settings (see `settings.py`).
    workdir: folder for checkpoints, metrics and TensorBoard logs.

  Returns:
    The exit status: 0; 143 after SIGTERM, 130 after Ctrl-C, 129 after SIGHUP.

  Raises:
    UserError: an error that the user can fix. Most are found before anything
      slow starts.
  """
  checks.check(config)
  build.check_batch_size(config, jax.device_count())
  source, eval_source = _load_sources(config)
  length = build.lengths(config, len(source))
  steps = _make_steps(config, source, length)
  with contextlib.ExitStack() as stack:
    before = stack.enter_context(resume.claimed(config, workdir, len(source)))
    dataset = classes.describe(source, eval_source)
    checkpointer = stack.enter_context(_checkpointer(config, workdir, dataset))
    stack.enter_context(_explained(config, checkpointer))
    create, start, metrics = _start_state(steps, checkpointer)
    _compile(steps, source, eval_source, length)
    resume.save_settings(config, workdir)
    if start:
      opening.announce(f'resuming from step {start}')
    if start and 0 < before < length.total:
      opening.announce(resume.describe_longer(before, length.total, start))
    reporter = stack.enter_context(_reporter(config, workdir, length, start))
    outcome = loop.train(
      devices.replicate(create()),
      train_step=steps.train,
      batches=inputs.train_batches(
        config, source, steps.model, steps.images_per_example
      ),
      evaluate=build.make_evaluation(
        config, steps.model, steps.evaluation, eval_source
      ),
      checkpointer=checkpointer,
      reporter=reporter,
      total_steps=length.total,
      log_every=config.log.every_steps,
      eval_every=length.eval_every,
      checkpoint_every=length.checkpoint_every,
      skip_nonfinite=config.train.skip_nonfinite,
      metrics=metrics,
    )
    reporter.message(_ending(outcome, workdir))
  return outcome.exit_status


def _make_steps(
  config: ml_collections.ConfigDict,
  source: source_lib.Source,
  length: build.Lengths,
) -> steps_lib.Steps:
  """Builds the programs; compiles nothing."""
  return steps_lib.make_steps(
    config,
    source.num_classes,
    build.make_schedule(config, length),
    class_weights=inputs.class_weights(config, source),
  )


def _compile(
  steps: steps_lib.Steps,
  source: source_lib.Source,
  eval_source: source_lib.Source,
  length: build.Lengths,
) -> None:
  """Prints what will run, compiles it and checks that it fits in memory."""
  opening.announce(
    opening.describe_data(steps.config, source, eval_source, length)
  )
  opening.announce(opening.describe_network(steps))
  opening.announce(opening.COMPILING)
  memory = fitting.check_training(steps, len(eval_source))
  opening.announce(f'memory     {memory}')


def _checkpointer(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  dataset: dataset_lib.Dataset,
) -> contextlib.closing:
  return contextlib.closing(
    checkpoint.Checkpointer(
      workdir / workdir_lib.CHECKPOINTS,
      keep=config.checkpoint.keep,
      config=config_lib.flatten(config),
      dataset=dataset,
    )
  )


def _reporter(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  length: build.Lengths,
  start: int,
) -> contextlib.closing:
  return contextlib.closing(
    reporting.Reporter(
      workdir,
      total_steps=length.total,
      images_per_step=config.train.batch_size,
      start_step=start,
      shorter=opening.SHORTER,
    )
  )


def _load_sources(
  config: ml_collections.ConfigDict,
) -> tuple[source_lib.Source, source_lib.Source]:
  """Opens the splits to train and to evaluate on.

  Raises:
    UserError: their classes differ, or too many images are unreadable.
  """
  source = inputs.load_source(config, 'train')
  eval_source = inputs.load_source(config, 'eval')
  if source.class_names != eval_source.class_names:
    differ = sorted(set(source.class_names) ^ set(eval_source.class_names))
    raise errors.UserError(
      f'{config.dataset}: {source.split} has {source.num_classes} classes and'
      f' {eval_source.split} has {eval_source.num_classes}; they differ in'
      f' {", ".join(differ[:5]) or "their order"}'
    )
  for split in (source, eval_source):
    inputs.check_readable(config, split)
  return source, eval_source


def _start_state(
  steps: steps_lib.Steps, checkpointer: checkpoint.Checkpointer
) -> tuple[Callable[[], state_lib.TrainState], int, dict[str, float]]:
  """Reads what to start from; nothing is on the devices yet.

  Returns:
    What creates the state, its step, and its metrics.
  """
  restored = checkpointer.restore_latest(steps_lib.state_shapes(steps))
  if restored is not None:
    return lambda: restored.state, restored.step, restored.metrics
  config = steps.config
  if not config.init_from:
    return functools.partial(steps_lib.create_state, steps), 0, {}
  params, net_state = weights.load_for(
    config.init_from, steps.model, reset_head=True
  )
  create = functools.partial(
    state_lib.from_params,
    params,
    net_state,
    steps.optimizer,
    ema=bool(config.train.ema_decay),
    skips=bool(config.train.skip_nonfinite),
  )
  return create, 0, {}


def _explained(
  config: ml_collections.ConfigDict, checkpointer: checkpoint.Checkpointer
) -> contextlib.AbstractContextManager[None]:
  """Turns an out-of-memory error into one line with the last step saved."""

  def saved() -> str:
    step = checkpointer.latest_step
    return 'no checkpoint yet' if step is None else f'step {step} is saved'

  return fitting.explained(
    f'{fitting.less_training(config)}; for an evaluation, reduce'
    ' config.eval.batch_size',
    saved,
  )


def _ending(outcome: loop.Outcome, workdir: pathlib.Path) -> str:
  """Describes how the run ended, with the paths of its files."""
  lines = [f'stopped at step {outcome.step}: rerun the command to resume']
  if not outcome.exit_status:
    measured = {
      'top1': 'held-out accuracy',
      'ema_top1': 'held-out accuracy of the averaged weights',
    }
    lines = [
      f'{text}: {outcome.metrics[f"eval/{name}"]:.2%}'
      for name, text in measured.items()
      if f'eval/{name}' in outcome.metrics
    ]
  checkpoints = workdir / workdir_lib.CHECKPOINTS
  return '\n'.join(
    [
      *lines,
      f'checkpoint:  {checkpoints / str(outcome.step)}',
      f'metrics:     {workdir / workdir_lib.METRICS}',
      f'TensorBoard: {workdir / workdir_lib.TENSORBOARD}',
    ]
  )
