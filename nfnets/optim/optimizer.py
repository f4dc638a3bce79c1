"""The optimizer of the published recipes, put together."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from nfnets.optim import agc, masks


class Group(NamedTuple):
  """Parameters that the optimizer treats alike.

  Attributes:
    name: what they are.
    tensors: how many arrays.
    parameters: how many numbers in them.
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
  trainable: masks.Mask | None = None,
) -> optax.GradientTransformation:
  """SGD with adaptive clipping, weight decay and Nesterov momentum.

  In this order: clip the gradient (all but the classifier's weight), add
  weight_decay * w (weights only, so the decay is not clipped), momentum, times
  -schedule(step).

  Args:
    schedule: the learning rate, or a function from the step to it.
    momentum: decay of the momentum buffer.
    nesterov: whether to look ahead: g + momentum * buffer, not the buffer.
    weight_decay: coefficient, on the parameters of `masks.decay_mask`.
    clipping: see `agc.adaptive_grad_clip`; None does not clip.
    clip_eps: its `eps`.
    trainable: pytree of bool like the parameters (or a function from the
      parameters to one), False where a parameter is frozen: it gets no update,
      has no momentum and does not count in the share of clipped units. None
      trains all.

  Returns:
    A transformation. `optax.tree.get(state, 'clipped')` is the fraction of
    units that the last update clipped.

  References:
    Brock et al., `High-Performance Large-Scale Image Recognition Without
    Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, section 4.1 and
    appendix A.
  """
  steps = []
  if clipping is not None:
    steps.append(agc.adaptive_grad_clip(clipping, clip_eps, masks.clip_mask))
  if weight_decay:
    # Checkpoints name the momentum by its place in the chain.
    steps.append(optax.identity())
  steps.append(_decayed_trace(momentum, nesterov, weight_decay))
  steps.append(optax.scale_by_learning_rate(schedule))
  optimizer = optax.chain(*steps)
  if trainable is None:
    return optimizer

  def labels(params: Any) -> Any:
    tree = trainable(params) if callable(trainable) else trainable
    return jax.tree.map(lambda trains: 'train' if trains else 'frozen', tree)

  return optax.partition(
    {'train': optimizer, 'frozen': optax.set_to_zero()}, labels
  )


def _decayed_trace(
  momentum: float, nesterov: bool, weight_decay: float
) -> optax.GradientTransformation:
  """`optax.add_decayed_weights` and `optax.trace` in one, but for rounding.

  In those two the decayed gradient has two uses, for which XLA on CPUs writes
  it out: memory of the size of the parameters, and three passes over it. Here
  the sums have nothing in common but the momentum, which is kept anyway.
  """

  def init_fn(params: Any) -> optax.TraceState:
    return optax.TraceState(trace=jax.tree.map(jnp.zeros_like, params))

  def update_fn(
    updates: Any, state: optax.TraceState, params: Any = None
  ) -> tuple[Any, optax.TraceState]:
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
  params: Any,
  *,
  weight_decay: float = 2e-5,
  clipping: float | None = 0.01,
  trainable: masks.Mask | None = None,
) -> list[Group]:
  """What `make_optimizer` with the same arguments does to which parameters.

  Args:
    params: the parameters (or their shapes, from `jax.eval_shape`).
    weight_decay: as in `make_optimizer`.
    clipping: as in `make_optimizer`.
    trainable: as in `make_optimizer`.

  Returns:
    The groups that are not empty: weights, gains and biases, the classifier's
    weight, frozen parameters.
  """
  trains = trainable(params) if callable(trainable) else trainable
  if trains is None:
    trains = jax.tree.map(lambda _: True, params)
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
  """Group name -> what the optimizer does to it, in the order of printing."""
  clip = [] if clipping is None else [f'AGC {clipping:g}']
  decay = [f'weight decay {weight_decay:g}'] if weight_decay else []
  return {
    'weights': ', '.join([*clip, *decay, 'momentum']),
    'gains and biases': ', '.join([*clip, 'momentum']),
    'classifier weight': ', '.join([*decay, 'momentum']),
    'frozen': 'nothing',
  }
