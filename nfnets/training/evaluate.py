"""Accuracy over a whole split, each example counted exactly once."""

import collections
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from nfnets.training import devices
from nfnets.training import state as state_lib
from nfnets.training import step as step_lib


class Interrupted(Exception):
  """Evaluation was asked to stop before its end."""


def evaluate(
  eval_step: step_lib.EvalStep,
  params: Any,
  state: Any,
  batches: Iterable[dict[str, np.ndarray]],
) -> dict[str, float]:
  """Runs one network over all batches.

  Args:
    eval_step: from `step.make_eval_step`.
    params: weights, replicated (`devices.replicate`).
    state: the network's state, replicated.
    batches: as in `evaluate_all`.

  Returns:
    'top1', 'top5' (shares), 'loss' (mean, nats) and 'count', the number of
    examples of all processes.

  Raises:
    ValueError: the batches hold no example.
  """
  return evaluate_all(eval_step, {'': (params, state)}, batches)


def evaluate_all(
  eval_step: step_lib.EvalStep,
  networks: Mapping[str, tuple[Any, Any]],
  batches: Iterable[dict[str, np.ndarray]],
  *,
  should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
  """Runs several networks over all batches, read once.

  Args:
    eval_step: from `step.make_eval_step`.
    networks: prefix of the metrics' names -> (params, state), replicated.
    batches: of the pipeline, finite and equally many in every process; rows
      with 'mask' False are padding. Any batch size: it is padded to a multiple
      of the devices.
    should_stop: asked before every batch, equally in every process.

  Returns:
    For each prefix, '<prefix>top1' and so on as in `evaluate`; 'count' once.

  Raises:
    Interrupted: `should_stop` said so.
    ValueError: the batches hold no example.
  """
  totals: collections.Counter[str] = collections.Counter()
  pending: collections.deque[dict[str, jax.Array]] = collections.deque()

  def collect(left: int) -> None:
    while len(pending) > left:
      sums = jax.device_get(pending.popleft())
      # Python's numbers: neither counts nor float64 sums round on the way.
      totals.update({name: value.item() for name, value in sums.items()})

  for batch in batches:
    if should_stop():
      raise Interrupted
    rows = devices.shard_batch(devices.pad_batch(batch))
    sums: dict[str, jax.Array] = {}
    for prefix, (params, state) in networks.items():
      own = eval_step(params, state, rows)
      sums |= {prefix + k: x for k, x in own.items() if k != 'count'}
      sums['count'] = own['count']
    pending.append(sums)
    collect(devices.steps_in_flight())
  collect(0)
  count = totals.pop('count', 0)
  if not count:
    raise ValueError(f'evaluation over {count} examples')
  return {k: total / count for k, total in totals.items()} | {'count': count}


def make_evaluation(
  eval_step: step_lib.EvalStep,
  batches: devices.Batches,
  fold: Callable[[Any], Any],
) -> Callable[[state_lib.TrainState, Callable[[], bool]], dict[str, float]]:
  """What the training loop calls to measure a train state.

  Args:
    eval_step: from `step.make_eval_step`.
    batches: of the held-out split, finite.
    fold: params -> those of the network that `eval_step` was made for, both
      replicated (`step.make_fold`).

  Returns:
    (state, should_stop) -> 'eval/top1', 'eval/top5', 'eval/loss', the same of
    the moving average as 'eval/ema_top1' ... where one is kept, 'eval/count'.
  """

  def evaluation(
    state: state_lib.TrainState, should_stop: Callable[[], bool]
  ) -> dict[str, float]:
    networks = {'': (fold(state.params), state.state)}
    if state.ema_params:
      networks['ema_'] = fold(state.ema_params), state.ema_state
    with contextlib.closing(batches.iterate()) as source:
      metrics = evaluate_all(
        eval_step, networks, source, should_stop=should_stop
      )
    return {f'eval/{name}': value for name, value in metrics.items()}

  return evaluation
