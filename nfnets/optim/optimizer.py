"""The optimizer of the published recipes."""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from nfnets.optim import agc, masks

# Parameters -> pytree of bool like them, False where one is frozen.
Trainable: TypeAlias = Callable[[optax.Params], masks.BoolTree]


class Group(NamedTuple):
  """Parameters that the optimizer treats alike.

  Attributes:
    name: the group's name, such as 'weights'.
    tensors: number of arrays.
    parameters: number of scalars in them.
    applies: what the optimizer does to them, in words.
  """

  name: str
  tensors: int
  parameters: int
  applies: str


def make_optimizer(
  schedule: optax.ScalarOrSchedule,
  *,
  momentum: float = 0.9,
  nesterov: bool = True,
  weight_decay: float = 2e-5,
  clipping: float | None = 0.01,
  clip_eps: float = 1e-3,
  trainable: Trainable | None = None,
) -> optax.GradientTransformation:
  """Builds SGD with adaptive clipping, weight decay and Nesterov momentum.

  In this order: clip the gradient (all but the classifier's weight), add
  weight_decay * w (weights only, so the decay is not clipped), apply momentum,
  multiply by -schedule(step).

  Args:
    schedule: the learning rate, or a function from the step to it.
    momentum: decay of the momentum buffer.
    nesterov: whether to look ahead: g + momentum * buffer, not the buffer.
    weight_decay: coefficient, on the parameters of `masks.decay_mask`.
    clipping: see `agc.adaptive_grad_clip`; None disables clipping.
    clip_eps: `eps` of `agc.adaptive_grad_clip`.
    trainable: selects the parameters to train, such as `masks.head_mask`. A
      frozen parameter gets no update, has no momentum and does not count in
      the fraction of clipped units. None trains all.

  Returns:
    A transformation. `optax.tree.get(state, 'clipped')` is the fraction of
    units that the last update clipped.

  References:
    Brock et al, `High-Performance Large-Scale Image Recognition Without
    Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, section 4.1 and
    appendix A.
  """
  steps = []
  if clipping is not None:
    steps.append(agc.adaptive_grad_clip(clipping, clip_eps, masks.clip_mask))
  steps.append(_decayed_trace(momentum, nesterov, weight_decay))
  steps.append(optax.scale_by_learning_rate(schedule))
  optimizer = optax.chain(*steps)
  if trainable is None:
    return optimizer

  def labels(params: optax.Params) -> optax.Params:
    return jax.tree.map(
      lambda trains: 'train' if trains else 'frozen', trainable(params)
    )

  return optax.partition(
    {'train': optimizer, 'frozen': optax.set_to_zero()}, labels
  )


def _decayed_trace(
  momentum: float, nesterov: bool, weight_decay: float
) -> optax.GradientTransformation:
  """Fuses `optax.add_decayed_weights` and `optax.trace`; equal up to rounding.

  In optax's pair the decayed gradient is used twice, so XLA on CPUs writes it
  to memory: an array the size of the parameters, and three passes over it.
  Here the two sums share only the momentum, which is stored anyway.
  """

  def init_fn(params: optax.Params) -> optax.TraceState:
    return optax.TraceState(trace=jax.tree.map(jnp.zeros_like, params))

  def update_fn(
    updates: optax.Updates,
    state: optax.TraceState,
    params: optax.Params | None = None,
  ) -> tuple[optax.Updates, optax.TraceState]:
    decayed = masks.decay_mask(params)

    def step(
      grad: jax.Array, trace: jax.Array, weight: jax.Array, decays: bool
    ) -> jax.Array:
      kept = momentum * trace
      if decays and weight_decay:
        kept += weight_decay * weight
      return kept + grad

    trace = jax.tree.map(step, updates, state.trace, params, decayed)
    updates = (
      jax.tree.map(step, updates, trace, params, decayed) if nesterov else trace
    )
    return updates, optax.TraceState(trace=trace)

  return optax.GradientTransformation(init_fn, update_fn)


def describe_groups(
  params: optax.Params,
  *,
  weight_decay: float = 2e-5,
  clipping: float | None = 0.01,
  trainable: Trainable | None = None,
) -> list[Group]:
  """Lists the parameter groups and what `make_optimizer` does to each.

  Args:
    params: the parameters (or their shapes, from `jax.eval_shape`).
    weight_decay: as in `make_optimizer`.
    clipping: as in `make_optimizer`.
    trainable: as in `make_optimizer`.

  Returns:
    The non-empty groups among weights, gains and biases, the classifier's
    weight, and frozen parameters.
  """
  if trainable is None:
    trains = jax.tree.map(lambda _: True, params)
  else:
    trains = trainable(params)
  rows = zip(
    jax.tree.leaves(params),
    jax.tree.leaves(trains),
    jax.tree.leaves(masks.decay_mask(params)),
    jax.tree.leaves(masks.clip_mask(params)),
    strict=True,
  )
  sizes: dict[str, list[int]] = {}
  for leaf, train, decayed, clipped in rows:
    name = _group_name(train, decayed, clipped)
    sizes.setdefault(name, []).append(math.prod(leaf.shape))
  return [
    Group(name, len(sizes[name]), sum(sizes[name]), applies)
    for name, applies in _what_applies(weight_decay, clipping).items()
    if name in sizes
  ]


def _group_name(train: bool, decayed: bool, clipped: bool) -> str:
  if not train:
    return 'frozen'
  if not clipped:
    return 'classifier weight'
  return 'weights' if decayed else 'gains and biases'


def _what_applies(
  weight_decay: float, clipping: float | None
) -> dict[str, str]:
  """Returns {group name: what the optimizer does to it}, in printing order."""
  clip = [] if clipping is None else [f'AGC {clipping:g}']
  decay = [f'weight decay {weight_decay:g}'] if weight_decay else []
  return {
    'weights': ', '.join([*clip, *decay, 'momentum']),
    'gains and biases': ', '.join([*clip, 'momentum']),
    'classifier weight': ', '.join([*decay, 'momentum']),
    'frozen': 'nothing',
  }
