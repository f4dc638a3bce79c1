"""Where data, step, evaluation, checkpoints and reports meet."""

import collections
import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from nfnets import errors
from nfnets.training import checkpoint, devices, reporting
from nfnets.training import evaluate as evaluate_lib
from nfnets.training import interruption as interruption_lib
from nfnets.training import state as state_lib
from nfnets.training import step as step_lib

# (state, should_stop) -> metrics such as {'eval/top1': 0.9}
Evaluate = Callable[
  [state_lib.TrainState, Callable[[], bool]], dict[str, float]
]


class Outcome(NamedTuple):
  """How training ended.

  Attributes:
    state: after the last step.
    step: its number.
    metrics: of the last evaluation; {} if there was none at this step.
    exit_status: 0, or 143 after SIGTERM and 130 after Ctrl-C, when a
      checkpoint was saved on the way out.
  """

  state: state_lib.TrainState
  step: int
  metrics: dict[str, float]
  exit_status: int


class DivergedError(errors.UserError):
  """A loss or gradient was not finite."""


def train(
  state: state_lib.TrainState,
  *,
  train_step: step_lib.TrainStep,
  batches: devices.Batches,
  evaluate: Evaluate,
  checkpointer: checkpoint.Checkpointer,
  reporter: reporting.Reporter,
  total_steps: int,
  log_every: int,
  eval_every: int,
  checkpoint_every: int,
  metrics: dict[str, float] | None = None,
) -> Outcome:
  """Trains from where `state` stands to `total_steps`.

  The step number decides everything, so that stopping at any step and calling
  again with the restored state equals not stopping.

  Args:
    state: replicated, fresh or restored.
    train_step: from `step.make_train_step`.
    batches: of the pipeline; batch k makes step k + 1.
    evaluate: see `evaluate.make_evaluation`.
    checkpointer: has restored what there was to restore.
    reporter: opened at the step of `state`.
    total_steps: of the whole run.
    log_every: steps between two lines of training metrics.
    eval_every: steps between two evaluations; the last step has one.
    checkpoint_every: steps between two checkpoints; the last step has one.
      One that falls on an evaluation can become the best.
    metrics: those of the restored checkpoint.

  Raises:
    DivergedError: a loss or gradient was not finite. Nothing of that step or
      after is saved.
    UserError: a checkpoint could not be written.
  """
  step = int(jax.device_get(state.step))
  metrics = dict(metrics or {})
  saver = _Saver(checkpointer, reporter)
  watch = _Watch(reporter, log_every, checkpointer)
  with (
    interruption_lib.Interruption() as interruption,
    contextlib.closing(batches.iterate(step)) as source,
  ):
    stream = devices.ahead(source)
    while not interruption.poll():
      if _due(step, eval_every, total_steps) and not metrics:
        watch.drain()
        metrics = _evaluate(evaluate, state, step, reporter, interruption)
        if interruption.stopping:  # measured when the run goes on
          break
      if _due(step, checkpoint_every, total_steps):
        watch.drain()
        saver.save(state, step, metrics)
      if step >= total_steps:
        break
      state, scalars = train_step(state, next(stream))
      step, metrics = step + 1, {}
      watch.push(step, scalars)
    watch.drain()
    saver.save(state, step, metrics)
    checkpointer.wait()
    # No process ends while another still needs it.
    devices.barrier('end of training')
    return Outcome(state, step, metrics, interruption.exit_status)


def _due(step: int, every: int, total_steps: int) -> bool:
  return step == total_steps or (step > 0 and step % every == 0)


def _evaluate(
  evaluate: Evaluate,
  state: state_lib.TrainState,
  step: int,
  reporter: reporting.Reporter,
  interruption: interruption_lib.Interruption,
) -> dict[str, float]:
  """Metrics of the state, or {} where a signal came in between."""
  try:
    with reporter.paused():
      metrics = evaluate(state, interruption.poll)
  except evaluate_lib.Interrupted:
    return {}
  reporter.write(step, metrics)
  return metrics


class _Watch:
  """Reads the scalars of each step, a little after it was dispatched."""

  def __init__(
    self,
    reporter: reporting.Reporter,
    log_every: int,
    checkpointer: checkpoint.Checkpointer,
  ) -> None:
    self._reporter = reporter
    self._log_every = log_every
    self._checkpointer = checkpointer
    self._pending: collections.deque[tuple[int, Any]] = collections.deque()

  def push(self, step: int, scalars: step_lib.Scalars) -> None:
    self._pending.append((step, scalars))
    self.drain(devices.steps_in_flight())

  def drain(self, left: int = 0) -> None:
    """Waits until all but the `left` newest steps are done and finite."""
    while len(self._pending) > left:
      step, scalars = self._pending.popleft()
      self._read(
        step, {k: float(v) for k, v in jax.device_get(scalars).items()}
      )

  def _read(self, step: int, scalars: dict[str, float]) -> None:
    if not scalars.pop('finite'):
      last = self._checkpointer.latest_step
      raise DivergedError(
        f'loss {scalars["loss"]:g}, gradient norm {scalars["grad_norm"]:g} at '
        f'step {step} are not finite: nothing of this step was kept (last '
        f'checkpoint: {"none" if last is None else f"step {last}"}). Lower '
        'the learning rate, clip more, or train in float32'
      )
    self._reporter.progress(step, scalars['loss'])
    if step % self._log_every == 0:
      named = {f'train/{name}': value for name, value in scalars.items()}
      self._reporter.write(step, named | self._reporter.speed())


class _Saver:
  """Checks that all replicas agree, then starts a checkpoint."""

  def __init__(
    self, checkpointer: checkpoint.Checkpointer, reporter: reporting.Reporter
  ) -> None:
    self._checkpointer = checkpointer
    self._reporter = reporter
    self._agree = step_lib.make_replica_check()

  def save(
    self, state: state_lib.TrainState, step: int, metrics: dict[str, float]
  ) -> None:
    if step in (0, self._checkpointer.latest_step):
      return
    with self._reporter.paused():
      if jax.device_count() > 1:
        self._check(state, step)
      # Lines up to this step are on disk before the checkpoint is.
      self._reporter.sync()
      self._checkpointer.save(step, state, metrics)

  def _check(self, state: state_lib.TrainState, step: int) -> None:
    if not jax.device_get(self._agree(state)):
      raise RuntimeError(
        f'the devices hold different states at step {step}: nothing was '
        'saved. A device or its memory is at fault'
      )
