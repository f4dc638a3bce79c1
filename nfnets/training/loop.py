"""The training loop: data, steps, evaluation, checkpoints and reports."""

import collections
import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax

from nfnets import errors
from nfnets.training import checkpoint, devices, early_stopping, reporting
from nfnets.training import evaluate as evaluate_lib
from nfnets.training import interruption as interruption_lib
from nfnets.training import state as state_lib
from nfnets.training import step as step_lib

_log = logging.getLogger(__name__)

# (state, should_stop) -> metrics such as {'eval/top1': 0.9}; see
# `evaluate.Evaluation`.
Evaluate: TypeAlias = Callable[
  [state_lib.TrainState, Callable[[], bool]], dict[str, float]
]
# See `step.make_train_step`.
TrainStep: TypeAlias = Callable[
  [state_lib.TrainState, devices.DeviceBatch],
  tuple[state_lib.TrainState, step_lib.Scalars],
]


class Outcome(NamedTuple):
  """How training ended.

  Attributes:
    state: the state after the last step.
    step: the number of the last step.
    metrics: evaluation metrics at this step; {} if it was not evaluated.
    exit_status: 0; or, once a checkpoint was saved, 143 after SIGTERM, 130
      after Ctrl-C and 129 after SIGHUP.
  """

  state: state_lib.TrainState
  step: int
  metrics: dict[str, float]
  exit_status: int


class DivergedError(errors.UserError):
  """A loss or gradient was not finite, more often than allowed."""


def train(
  state: state_lib.TrainState,
  *,
  train_step: TrainStep,
  batches: devices.Batches,
  evaluate: Evaluate,
  checkpointer: checkpoint.Checkpointer,
  reporter: reporting.Reporter,
  total_steps: int,
  log_every: int,
  eval_every: int,
  checkpoint_every: int,
  stopping: early_stopping.EarlyStopping,
  skip_nonfinite: int = 0,
  metrics: dict[str, float] | None = None,
) -> Outcome:
  """Trains from `state.step` to `total_steps`.

  Everything is a function of the step number, so stopping at any step and
  calling this again with the restored state equals not stopping.

  Args:
    state: the initial or restored state, replicated.
    train_step: from `step.make_train_step`.
    batches: the pipeline; step k + 1 uses batch k.
    evaluate: from `evaluate.Evaluation`.
    checkpointer: `restore_latest` must have been called.
    reporter: opened with `start_step` equal to `state.step`.
    total_steps: number of steps of the whole run.
    log_every: steps between two lines of training metrics.
    eval_every: steps between two evaluations. The last step is evaluated too,
      instead of any step less than half as many steps before it.
    checkpoint_every: steps between two checkpoints, of which those after a
      skipped step are omitted. The last step is saved too. Only a checkpoint at
      an evaluated step can become the best.
    stopping: ends the run after an evaluation, or at the start if it is done.
    skip_nonfinite: number of steps in a row that may be skipped because their
      loss or gradient is not finite; above 0 needs `state.skips`.
    metrics: the metrics of the restored checkpoint.

  Returns:
    The final state, and how training ended.

  Raises:
    DivergedError: `skip_nonfinite` + 1 steps in a row were not finite. The
      last one's metrics are reported, but nothing from it on is saved.
    UserError: a checkpoint could not be written, or the devices' states
      differ.
  """
  step = int(jax.device_get(state.step))
  metrics = dict(metrics or {})
  saver = _Saver(checkpointer, reporter)
  watch = _Watch(reporter, log_every, checkpointer, skip_nonfinite)
  with (
    interruption_lib.Interruption() as interruption,
    contextlib.closing(batches.iterate(step)) as source,
  ):
    stream = devices.ahead(source)
    while not interruption.poll():
      if _due_to_evaluate(step, eval_every, total_steps) and not metrics:
        watch.drain()
        metrics = _evaluate(evaluate, state, step, reporter, interruption)
        if interruption.stopping:  # evaluated when the run resumes
          break
        stopping.record(step, metrics)
      if _due(step, checkpoint_every, total_steps) and watch.drain():
        saver.save(state, step, metrics)
      if step >= total_steps or stopping.done:
        break
      state, scalars = train_step(state, next(stream))
      step, metrics = step + 1, {}
      watch.push(step, scalars)
    watch.drain()
    saver.save(state, step, metrics)
    checkpointer.wait()
    # No process exits while another still needs it.
    devices.barrier('end of training')
    return Outcome(state, step, metrics, interruption.exit_status)


def _due(step: int, every: int, total_steps: int) -> bool:
  return step == total_steps or (step > 0 and step % every == 0)


def _due_to_evaluate(step: int, every: int, total_steps: int) -> bool:
  """Returns whether to evaluate, but not twice in a row at the end.

  Rounded to steps, five epochs can end a few steps before the run does.
  """
  near_end = 0 < 2 * (total_steps - step) < every
  return _due(step, every, total_steps) and not near_end


def _evaluate(
  evaluate: Evaluate,
  state: state_lib.TrainState,
  step: int,
  reporter: reporting.Reporter,
  interruption: interruption_lib.Interruption,
) -> dict[str, float]:
  """Returns the metrics of the state, or {} if a signal interrupted it."""
  try:
    with reporter.paused():
      metrics = evaluate(state, interruption.poll)
  except evaluate_lib.Interrupted:
    return {}
  reporter.write(step, metrics)
  return metrics


# A step and its scalars, still on the devices.
_Pending: TypeAlias = tuple[int, step_lib.Scalars]


class _Watch:
  """Reads and reports the scalars of each step a few steps later."""

  def __init__(
    self,
    reporter: reporting.Reporter,
    log_every: int,
    checkpointer: checkpoint.Checkpointer,
    skip_nonfinite: int,
  ) -> None:
    self._reporter = reporter
    self._log_every = log_every
    self._checkpointer = checkpointer
    self._skip_nonfinite = skip_nonfinite
    self._in_a_row = 0
    self._pending: collections.deque[_Pending] = collections.deque()
    self._unreported: dict[str, float] = {}

  def push(self, step: int, scalars: step_lib.Scalars) -> None:
    self._pending.append((step, scalars))
    self.drain(devices.steps_in_flight())

  def drain(self, left: int = 0) -> bool:
    """Waits until all but the `left` newest steps are done and checked.

    Returns:
      Whether the state is worth a checkpoint: the newest of these steps was not
      skipped. Copies of a state that may have caused a row of skipped steps
      would displace the checkpoints before it.
    """
    while len(self._pending) > left:
      step, scalars = self._pending.popleft()
      self._read(
        step, {k: float(v) for k, v in jax.device_get(scalars).items()}
      )
    return not self._in_a_row

  def _read(self, step: int, scalars: dict[str, float]) -> None:
    finite = scalars.pop('finite')
    self._in_a_row = int(scalars.pop('skipped_in_a_row', 1 - finite))
    named = {f'train/{name}': value for name, value in scalars.items()}
    if not finite:
      self._check(step, scalars, named)
    self._reporter.progress(step, scalars['loss'], self._last_finished())
    self._unreported = named
    if step % self._log_every == 0:
      self._reporter.write(step, named | self._reporter.speed())
      self._unreported = {}

  def _last_finished(self) -> int:
    """Returns the last pending step that is finished, 0 if none is."""
    last = 0
    for step, scalars in self._pending:
      if not scalars['loss'].is_ready():
        break
      last = step
    return last

  def _check(
    self, step: int, scalars: dict[str, float], named: dict[str, float]
  ) -> None:
    """Warns about a step that is not finite, or ends the run."""
    found = (
      f'loss {scalars["loss"]:g}, gradient norm {scalars["grad_norm"]:g} at '
      f'step {step} are not finite'
    )
    earlier = self._in_a_row - 1
    if earlier >= self._skip_nonfinite:
      if self._unreported:
        self._reporter.write(step - 1, self._unreported)
      self._reporter.write(step, named)
      last = self._checkpointer.latest_step
      before = f', nor were {earlier} before it' if earlier else ''
      raise DivergedError(
        f'{found}: this step was not applied{before} (last checkpoint: '
        f'{"none" if last is None else f"step {last}"}). Lower the learning '
        'rate, clip more, or train in float32'
      )
    skipped = int(scalars['skipped'])
    # The 1st, 2nd, 4th, 8th, ...
    if skipped.bit_count() == 1 and devices.is_primary():
      _log.warning('%s: skipped (%d so far)', found, skipped)


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
      # Metrics up to this step must be on disk before the checkpoint is.
      self._reporter.sync()
      self._checkpointer.save(step, state, metrics)

  def _check(self, state: state_lib.TrainState, step: int) -> None:
    if not jax.device_get(self._agree(state)):
      last = self._checkpointer.latest_step
      raise errors.UserError(
        f'the devices hold different states at step {step}: it was not saved'
        f' (last checkpoint: {"none" if last is None else f"step {last}"}). A'
        ' device or its memory is faulty: rerun the command on other devices'
      )
