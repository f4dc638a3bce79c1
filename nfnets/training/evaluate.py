"""Accuracy and loss over a whole split, each example counted exactly once."""

import collections
import contextlib
from collections.abc import Callable, Iterable, Mapping

import jax

from nfnets.models import registry
from nfnets.training import devices
from nfnets.training import state as state_lib
from nfnets.training import step as step_lib


class Interrupted(Exception):
  """Evaluation was asked to stop before its end."""


def evaluate_all(
  eval_step: step_lib.EvalStep,
  networks: Mapping[str, tuple[registry.Params, registry.State]],
  batches: Iterable[devices.Batch],
  *,
  should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
  """Evaluates one or more sets of weights on all batches, which are read once.

  Args:
    eval_step: from `step.make_eval_step`.
    networks: {prefix of the metric names: (params, state)}, replicated
      (`devices.replicate`).
    batches: the pipeline's batches, finite and of equal number in every
      process; rows with 'mask' False are padding. Batches of any size are
      padded to a multiple of the devices.
    should_stop: called before every batch; must agree in all processes.

  Returns:
    For each prefix '<prefix>top1', '<prefix>top5' (fractions; the latter only
    with more than five classes) and '<prefix>loss' (mean, nats); and 'count',
    the number of examples of all processes.

  Raises:
    Interrupted: `should_stop` returned True.
    ValueError: the batches hold no example.
  """
  totals: collections.Counter[str] = collections.Counter()
  pending: collections.deque[step_lib.Scalars] = collections.deque()

  def collect(left: int) -> None:
    while len(pending) > left:
      sums = jax.device_get(pending.popleft())
      # Python numbers: counts do not overflow and sums are in float64.
      totals.update({name: value.item() for name, value in sums.items()})

  for batch in batches:
    if should_stop():
      raise Interrupted
    rows = devices.shard_batch(devices.pad_batch(batch))
    sums: step_lib.Scalars = {}
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
  fold: step_lib.Fold,
) -> Callable[[state_lib.TrainState, Callable[[], bool]], dict[str, float]]:
  """Returns the function that the training loop evaluates a train state with.

  Args:
    eval_step: from `step.make_eval_step`.
    batches: the held-out split, finite.
    fold: from `step.make_fold`: parameters in training -> parameters of the
      network that `eval_step` was made for.

  Returns:
    (state, should_stop) -> 'eval/top1', 'eval/top5' (with more than five
    classes), 'eval/loss'; the same for the moving average, if one is kept, as
    'eval/ema_top1' and so on; and 'eval/count'.
  """

  def evaluation(
    state: state_lib.TrainState, should_stop: Callable[[], bool]
  ) -> dict[str, float]:
    networks = {'': (fold(state.params), state.state)}
    if state.ema_params:
      networks['ema_'] = fold(state.ema_params), state.ema_state
    with contextlib.closing(batches.iterate()) as stream:
      metrics = evaluate_all(
        eval_step, networks, stream, should_stop=should_stop
      )
    return {f'eval/{name}': value for name, value in metrics.items()}

  return evaluation
