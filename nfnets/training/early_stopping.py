"""Ends a run whose metric has stopped improving."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence

from nfnets.training import devices, metrics_file
from nfnets.training import workdir as workdir_lib


class EarlyStopping:
  """Counts the evaluations since the metric last improved.

  If the run keeps an average of the weights, the metric is that of the average.

  Attributes:
    done: whether `patience` evaluations in a row have brought no improvement.
  """

  def __init__(self, metric: str, patience: int) -> None:
    """Creates a counter that has seen no evaluation.

    Args:
      metric: 'eval/top1' (higher is better) or 'eval/loss' (lower is better).
      patience: the number of evaluations; 0 never ends a run.
    """
    self.done = False
    self._metric = metric
    self._patience = patience
    self._best = -math.inf
    self._best_step = 0
    self._in_vain = 0

  def record(self, step: int, metrics: Mapping[str, float]) -> None:
    """Counts an evaluation; all processes take the decision of process 0.

    Args:
      step: the step that was evaluated.
      metrics: what `evaluate.Evaluation` measured.
    """
    if self._patience:
      self._count(step, metrics)
      self.done = devices.of_primary(self._in_vain >= self._patience)

  def _count(self, step: int, metrics: Mapping[str, float]) -> None:
    value = self._value(metrics)
    if value > self._best:  # False for NaN
      self._best, self._best_step, self._in_vain = value, step, 0
    else:
      self._in_vain += 1

  def _value(self, metrics: Mapping[str, float]) -> float:
    """Returns the metric, negated if lower is better."""
    value = metrics.get(self._averaged, metrics.get(self._metric, math.nan))
    return -value if self._metric == 'eval/loss' else value

  @property
  def _averaged(self) -> str:
    return self._metric.replace('/', '/ema_')

  def replay(
    self,
    history: Sequence[Mapping[str, float]],
    start: int,
    longer: bool,
  ) -> None:
    """Counts the evaluations before a run was resumed.

    The count starts again where the run was continued although it was done: it
    was made longer, or had another patience then.

    Args:
      history: from `read_history`.
      start: the step that the run resumes from.
      longer: whether the run was made longer when it was at this step.
    """
    if not self._patience:
      return
    last = 0
    for line in history:
      # Others are of the test split.
      if 'eval/loss' not in line:
        continue
      self._restart_if_done()
      last = int(line['step'])
      self._count(last, line)
      self.done = self._in_vain >= self._patience
    if last < start or longer:
      self._restart_if_done()

  def _restart_if_done(self) -> None:
    if self.done:
      self.done, self._in_vain = False, 0

  def describe(self, metrics: Mapping[str, float]) -> str:
    """Explains why the run has ended, and which step was the best.

    Args:
      metrics: what the last evaluation measured.
    """
    name = self._averaged if self._averaged in metrics else self._metric
    best = abs(self._best)
    value = f'{best:.4f}' if self._metric == 'eval/loss' else f'{best:.2%}'
    found = f'best {value} at step {self._best_step}'
    return (
      f'{name} has not improved in {self._in_vain} evaluations'
      f' ({found if self._best_step else "never finite"}); to continue,'
      ' increase config.train.early_stopping_patience or make the run longer'
    )


def read_history(workdir: pathlib.Path, start: int) -> list[dict[str, float]]:
  """Reads the evaluations of a run from its metrics file, in process 0.

  The file has all lines up to a checkpoint before the checkpoint is complete.
  Only lines that could not be written, for lack of space, are missing.

  Args:
    workdir: the run's workdir.
    start: the step that the run resumes from; later lines do not count.

  Returns:
    The metrics of each evaluation with 'step', the same in all processes.
  """
  lines: list[dict[str, float]] = []
  if start and devices.is_primary():
    path = workdir / workdir_lib.METRICS
    lines = metrics_file.read_evaluations(path, start)
  return json.loads(devices.broadcast_text(json.dumps(lines)))
