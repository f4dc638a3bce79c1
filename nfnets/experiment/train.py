"""Trains a network: one run, from settings to checkpoints and metrics."""

import contextlib
import functools
import pathlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import ml_collections

from nfnets import weights
from nfnets.data import growth
from nfnets.experiment import (
  build,
  checks,
  classes,
  ending,
  fitting,
  inputs,
  opening,
  reports,
  resume,
  splits,
)
from nfnets.experiment import config as config_lib
from nfnets.experiment import steps as steps_lib
from nfnets.training import (
  checkpoint,
  devices,
  early_stopping,
  loop,
  reporting,
)
from nfnets.training import evaluate as evaluate_lib
from nfnets.training import state as state_lib
from nfnets.training import workdir as workdir_lib


class _Plan(NamedTuple):
  """What a run does, from its first step to its last.

  Attributes:
    steps: the programs, and the settings that they are built from.
    data: the splits.
    length: the lengths in steps.
    sizes: the stages with the sizes of the training images.
  """

  steps: steps_lib.Steps
  data: splits.Splits
  length: build.Lengths
  sizes: tuple[growth.Stage, ...]


class _Start(NamedTuple):
  """What a run starts from; nothing is on the devices yet.

  Attributes:
    create: creates the state.
    step: its step.
    metrics: its evaluation metrics.
    config: the settings of the run that saved it; None if there are none.
  """

  create: Callable[[], state_lib.TrainState]
  step: int = 0
  metrics: Mapping[str, float] = types.MappingProxyType({})
  config: Mapping[str, object] | None = None


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
  plan = _plan(config)
  examples = len(plan.data.train)
  with contextlib.ExitStack() as stack:
    before = stack.enter_context(resume.claimed(config, workdir, examples))
    checkpointer = stack.enter_context(
      _checkpointer(config, workdir, plan.data)
    )
    stack.enter_context(_explained(config, checkpointer))
    start = _find_start(plan.steps, checkpointer)
    _compile(plan)
    resume.save_settings(config, workdir)
    if start.step:
      opening.announce(f'resuming from step {start.step}')
    total = plan.length.total
    if start.step and 0 < before < total:
      opening.announce(resume.describe_longer(before, total, start.step))
    reporter = stack.enter_context(
      _reporter(config, workdir, plan.length, start.step)
    )
    history = early_stopping.read_history(workdir, start.step)
    stopping = _stopping(plan, start, history)
    evaluation = build.make_evaluation(
      config, plan.steps.model, plan.steps.evaluation, plan.data.held_out
    )
    outcome = _loop(plan, start, evaluation, checkpointer, reporter, stopping)
    test = ending.measure_test(
      plan.steps, plan.data, outcome, reporter, history
    )
    if not outcome.exit_status and outcome.step < total:
      why = stopping.describe(outcome.metrics)
      reporter.message(f'stopped early at step {outcome.step}: {why}')
    reporter.message(ending.describe(outcome, workdir, test))
    reports.after_training(
      plan.steps, plan.data.held_out, evaluation, outcome, reporter, workdir
    )
    if not outcome.exit_status:
      reporter.message(ending.next_commands(config, workdir))
  return outcome.exit_status


def _plan(config: ml_collections.ConfigDict) -> _Plan:
  """Opens the data and builds the programs; compiles nothing."""
  data = splits.load(config)
  length = build.lengths(config, len(data.train))
  schedule = build.make_schedule(config, length)
  steps = steps_lib.make_steps(
    config,
    data.train.num_classes,
    schedule,
    class_weights=inputs.class_weights(config, data.train),
  )
  opening.warn_of_skip_gains(steps, length)
  sizes = inputs.image_sizes(config, steps.model, length.total)
  return _Plan(steps, data, length, sizes)


def _loop(
  plan: _Plan,
  start: _Start,
  evaluation: evaluate_lib.Evaluation,
  checkpointer: checkpoint.Checkpointer,
  reporter: reporting.Reporter,
  stopping: early_stopping.EarlyStopping,
) -> loop.Outcome:
  """Trains from the start to the end."""
  steps, length = plan.steps, plan.length
  config = steps.config
  return loop.train(
    devices.replicate(start.create()),
    train_step=steps_lib.announcing_sizes(steps.train, plan.sizes, reporter),
    batches=inputs.train_batches(
      config,
      plan.data.train,
      steps.model,
      steps.images_per_example,
      plan.sizes,
    ),
    evaluate=evaluation,
    checkpointer=checkpointer,
    reporter=reporter,
    total_steps=length.total,
    log_every=config.log.every_steps,
    eval_every=length.eval_every,
    checkpoint_every=length.checkpoint_every,
    skip_nonfinite=config.train.skip_nonfinite,
    metrics=dict(start.metrics),
    stopping=stopping,
  )


def _stopping(
  plan: _Plan, start: _Start, history: Sequence[Mapping[str, float]]
) -> early_stopping.EarlyStopping:
  """Creates what ends the run early, with its count at the start."""
  config = plan.steps.config
  stopping = early_stopping.EarlyStopping(
    config.train.early_stopping_metric, config.train.early_stopping_patience
  )
  longer = False
  if start.config and config.train.early_stopping_patience:
    before = resume.total_steps(start.config, len(plan.data.train))
    longer = before < plan.length.total
  stopping.replay(history, start.step, longer)
  return stopping


def _compile(plan: _Plan) -> None:
  """Prints what will run, compiles it and checks that it fits in memory."""
  steps, data = plan.steps, plan.data
  opening.announce(
    opening.describe_data(steps.config, *data, length=plan.length)
  )
  if len(plan.sizes) > 1:
    opening.announce(opening.describe_sizes(plan.sizes))
  opening.announce(opening.describe_network(steps))
  opening.announce(opening.COMPILING)
  memory = fitting.check_training(steps, len(data.held_out))
  opening.announce(f'memory     {memory}')


def _checkpointer(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, data: splits.Splits
) -> contextlib.closing:
  return contextlib.closing(
    checkpoint.Checkpointer(
      workdir / workdir_lib.CHECKPOINTS,
      keep=config.checkpoint.keep,
      config=config_lib.flatten(config),
      dataset=classes.describe(data.train, data.held_out),
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


def _find_start(
  steps: steps_lib.Steps, checkpointer: checkpoint.Checkpointer
) -> _Start:
  """Reads the latest checkpoint or the weights to start from, if any."""
  restored = checkpointer.restore_latest(steps_lib.state_shapes(steps))
  if restored is not None:
    return _Start(
      lambda: restored.state, restored.step, restored.metrics, restored.config
    )
  config = steps.config
  if not config.init_from:
    return _Start(functools.partial(steps_lib.create_state, steps))
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
  return _Start(create)


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
