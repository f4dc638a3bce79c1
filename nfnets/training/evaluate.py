"""Predictions on a whole split, each example counted exactly once."""

import collections
import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import jax
import numpy as np

from nfnets.models import registry
from nfnets.report import numbers
from nfnets.training import devices
from nfnets.training import state as state_lib
from nfnets.training import step as step_lib

# The values of one batch's rows by name, see `step.make_eval_step`.
_Rows: TypeAlias = dict[str, np.ndarray]


class Interrupted(Exception):
  """Evaluation was asked to stop before its end."""


def evaluate_all(
  eval_step: step_lib.EvalStep,
  networks: Mapping[str, tuple[registry.Params, registry.State]],
  batches: Iterable[devices.Batch],
  *,
  should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, numbers.Outcomes]:
  """Evaluates one or more sets of weights on all batches, which are read once.

  Args:
    eval_step: from `step.make_eval_step`.
    networks: {name: (params, state)}, replicated (`devices.replicate`).
    batches: the pipeline's batches, finite and of equal number in every
      process; rows with 'mask' False are padding. Batches of any size are
      padded to a multiple of the devices.
    should_stop: called before every batch; must agree in all processes.

  Returns:
    The outcomes for each set of weights, of the examples of all processes; the
    same in every process.

  Raises:
    Interrupted: `should_stop` returned True.
    ValueError: the batches hold no example.
  """
  pending: collections.deque[Callable[[], dict[str, _Rows]]]
  pending = collections.deque()
  parts: dict[str, list[_Rows]] = {name: [] for name in networks}
  first = 0  # Index in the split of the batch's first example.

  def collect(left: int) -> None:
    while len(pending) > left:
      for name, rows in pending.popleft()().items():
        parts[name].append(rows)

  for batch in batches:
    if should_stop():
      raise Interrupted
    size = len(batch['label'])
    rows = devices.shard_batch(devices.pad_batch(batch))
    outputs = {
      name: eval_step(params, state, rows)
      for name, (params, state) in networks.items()
    }
    pending.append(functools.partial(_fetch, outputs, first, size))
    first += size * jax.process_count()
    collect(devices.steps_in_flight())
  collect(0)
  return {name: _join(found) for name, found in parts.items()}


def _fetch(
  outputs: Mapping[str, step_lib.Scalars], first: int, size: int
) -> dict[str, _Rows]:
  """Waits for a batch's rows; omits padding and replaces the index.

  Args:
    outputs: the rows for each set of weights.
    first: index in the split of the batch's first example.
    size: number of rows of each process before they were padded.
  """
  fetched: dict[str, _Rows] = jax.device_get(dict(outputs))
  found = {}
  for name, rows in fetched.items():
    padded = len(rows['index']) // jax.process_count()
    process, row = np.divmod(rows.pop('index').astype(np.int64), padded)
    rows['position'] = first + process * size + row
    real = rows.pop('mask') > 0
    found[name] = {key: values[real] for key, values in rows.items()}
  return found


def _join(parts: Sequence[_Rows]) -> numbers.Outcomes:
  """Joins the rows of all batches, in the order of the split."""
  count = sum(len(part['position']) for part in parts)
  if not count:
    raise ValueError(f'evaluation over {count} examples')
  rows = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
  order = np.argsort(rows['position'])
  rows = {k: values[order] for k, values in rows.items()}
  top5 = rows.pop('top5', None)
  return numbers.Outcomes(**rows, top5=None if top5 is None else top5 > 0)


class Evaluation:
  """Evaluates train states on a held-out split, as the training loop needs it.

  Attributes:
    outcomes: the predictions of the latest call; 'ema_' are those of the moving
      average, if one is kept, and '' the others. None before the first call.
  """

  def __init__(
    self,
    eval_step: step_lib.EvalStep,
    batches: devices.Batches,
    fold: step_lib.Fold,
  ) -> None:
    """Evaluates nothing yet.

    Args:
      eval_step: from `step.make_eval_step`.
      batches: the held-out split, finite.
      fold: from `step.make_fold`: parameters in training -> parameters of the
        network that `eval_step` was made for.
    """
    self.outcomes: dict[str, numbers.Outcomes] | None = None
    self._eval_step = eval_step
    self._batches = batches
    self._fold = fold

  def __call__(
    self, state: state_lib.TrainState, should_stop: Callable[[], bool]
  ) -> dict[str, float]:
    """Evaluates a train state.

    Args:
      state: the train state, replicated.
      should_stop: see `evaluate_all`.

    Returns:
      For each metric of `numbers.metrics`, such as 'eval/top1', its value; the
      same for the moving average, if one is kept, as 'eval/ema_top1' and so on;
      and 'eval/count', the number of examples of all processes.

    Raises:
      Interrupted: `should_stop` returned True.
    """
    networks = {'': (self._fold(state.params), state.state)}
    if state.ema_params:
      networks['ema_'] = self._fold(state.ema_params), state.ema_state
    with contextlib.closing(self._batches.iterate()) as stream:
      self.outcomes = evaluate_all(
        self._eval_step, networks, stream, should_stop=should_stop
      )
    metrics: dict[str, float] = {}
    for prefix, outcomes in self.outcomes.items():
      summary = numbers.summarize(outcomes)
      for name, value in numbers.metrics(summary).items():
        metrics[f'eval/{prefix}{name}'] = value
      metrics['eval/count'] = summary.images
    return metrics
