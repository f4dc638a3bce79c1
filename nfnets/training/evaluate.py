"""Accuracy over a whole split, each example counted exactly once."""

import collections
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from nfnets.training import devices
from nfnets.training import step as step_lib

# Batches in flight: enough to keep the devices busy, few enough to hold.
_IN_FLIGHT = 2


class Interrupted(Exception):
  """Evaluation was asked to stop before its end."""


def evaluate(
  eval_step: step_lib.EvalStep,
  params: Any,
  state: Any,
  batches: Iterable[dict[str, np.ndarray]],
  *,
  should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
  """Runs the network over all batches and divides once at the end.

  Args:
    eval_step: from `step.make_eval_step`.
    params: weights, replicated (`devices.replicate`).
    state: the network's state, replicated.
    batches: of the pipeline, finite and equally many in every process; rows
      with 'mask' False are padding. Any batch size: it is padded to a multiple
      of the devices.
    should_stop: asked before every batch, equally in every process.

  Returns:
    'top1', 'top5' (shares), 'loss' (mean, nats) and 'count', the number of
    examples of all processes.

  Raises:
    Interrupted: `should_stop` said so.
    ValueError: the batches hold no example.
  """
  totals: collections.Counter[str] = collections.Counter()
  pending: collections.deque[step_lib.Scalars] = collections.deque()

  def collect(left: int) -> None:
    while len(pending) > left:
      sums = jax.device_get(pending.popleft())
      # Python's numbers: neither counts nor float64 sums round on the way.
      totals.update({name: value.item() for name, value in sums.items()})

  for batch in batches:
    if should_stop():
      raise Interrupted
    rows = devices.shard_batch(devices.pad_batch(batch))
    pending.append(eval_step(params, state, rows))
    collect(_IN_FLIGHT)
  collect(0)
  count = totals.pop('count', 0)
  if not count:
    raise ValueError(f'evaluation over {count} examples')
  return {name: total / count for name, total in totals.items()} | {
    'count': count
  }
