"""SGD of the published recipes, AdamW and LAMB, each with AGC in front."""

import math
from collections.abc import Callable, Sequence
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
  name: str = 'sgd',
  momentum: float = 0.9,
  nesterov: bool = True,
  beta1: float = 0.9,
  beta2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 2e-5,
  layer_decay: float = 1.0,
  clipping: float | None = 0.01,
  clip_eps: float = 1e-3,
  clip_norm: float | None = None,
  trainable: Trainable | None = None,
) -> optax.GradientTransformation:
  """Builds adaptive clipping and an optimizer with weight decay.

  First the gradient is clipped (all but the classifier's weight). Weight decay
  applies to weights only and is not clipped:
    'sgd': add weight_decay * w, apply momentum.
    'adamw': divide the moments, add weight_decay * w.
    'lamb': as 'adamw'; then scale the update of each weight tensor w to the
      norm of w. Gains and biases are not scaled, as in the published code.
  Last, multiply by -schedule(step) * layer_decay ** (layers above).

  Args:
    schedule: the learning rate, or a function from the step to it.
    name: 'sgd', 'adamw' or 'lamb'.
    momentum: decay of the momentum buffer of 'sgd'.
    nesterov: whether 'sgd' looks ahead: g + momentum * buffer, not the buffer.
    beta1: decay of the mean gradient of 'adamw' and 'lamb'.
    beta2: decay of the mean square of the gradient of these two.
    eps: what they add to the square root of the mean square.
    weight_decay: coefficient, on the parameters of `masks.decay_mask`.
    layer_decay: factor on the learning rate per layer above a parameter, see
      `masks.layers_above`; 1 disables it. It acts on weight decay too, as the
      learning rate does.
    clipping: see `agc.adaptive_grad_clip`; None disables clipping.
    clip_eps: `eps` of `agc.adaptive_grad_clip`.
    clip_norm: if the norm of the whole gradient, the classifier's included, is
      larger, the gradient is scaled to this norm, after AGC; None: no limit.
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
    Loshchilov and Hutter, `Decoupled Weight Decay Regularization
    <https://arxiv.org/abs/1711.05101>`_, 2019, algorithm 2.
    You et al, `Large Batch Optimization for Deep Learning: Training BERT in 76
    minutes <https://arxiv.org/abs/1904.00962>`_, 2020, algorithm 2.
    Clark et al, `ELECTRA: Pre-training Text Encoders as Discriminators Rather
    Than Generators <https://arxiv.org/abs/2003.10555>`_, 2020, appendix A
    (layer-wise decay).
  """
  steps = []
  if clipping is not None:
    steps.append(agc.adaptive_grad_clip(clipping, clip_eps, masks.clip_mask))
  if clip_norm is not None:
    steps.append(optax.clip_by_global_norm(clip_norm))
  if name == 'sgd':
    steps.append(_decayed_trace(momentum, nesterov, weight_decay))
  else:
    steps += _decayed_adam(name, beta1, beta2, eps, weight_decay)
  steps.append(optax.scale_by_learning_rate(schedule))
  if layer_decay != 1:
    steps.append(_scale_by_layer(layer_decay))
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


def _decayed_adam(
  name: str, beta1: float, beta2: float, eps: float, weight_decay: float
) -> list[optax.GradientTransformation]:
  """Returns the parts of `optax.adamw` or of `optax.lamb`."""
  # Named: a checkpoint drops positions, and the schedule has a count, too.
  moments = optax.scale_by_adam(beta1, beta2, eps)
  parts = [optax.named_chain(('adam', moments))]
  if weight_decay:
    parts.append(optax.add_decayed_weights(weight_decay, masks.decay_mask))
  if name == 'lamb':
    trust_ratio = optax.scale_by_trust_ratio()
    parts.append(optax.masked(trust_ratio, masks.decay_mask))
  return parts


def _scale_by_layer(decay: float) -> optax.GradientTransformation:
  """Multiplies updates by decay ** (number of layers above)."""

  def scale(updates: optax.Updates, params: optax.Params) -> optax.Updates:
    return jax.tree.map(
      lambda update, layers: update * decay**layers,
      updates,
      masks.layers_above(params),
    )

  return optax.stateless(scale)


def describe_groups(
  params: optax.Params,
  *,
  name: str = 'sgd',
  weight_decay: float = 2e-5,
  layer_decay: float = 1.0,
  clipping: float | None = 0.01,
  clip_norm: float | None = None,
  trainable: Trainable | None = None,
) -> list[Group]:
  """Lists the parameter groups and what `make_optimizer` does to each.

  Args:
    params: the parameters (or their shapes, from `jax.eval_shape`).
    name: as in `make_optimizer`.
    weight_decay: as in `make_optimizer`.
    layer_decay: as in `make_optimizer`.
    clipping: as in `make_optimizer`.
    clip_norm: as in `make_optimizer`.
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
    group = _group_name(train, decayed, clipped)
    sizes.setdefault(group, []).append(math.prod(leaf.shape))
  limits = [] if clip_norm is None else [f'norm {clip_norm:g}']
  agc_limit = [] if clipping is None else [f'AGC {clipping:g}']
  applied = _what_applies(
    name, weight_decay, layer_decay, [*agc_limit, *limits], limits
  )
  return [
    Group(group, len(sizes[group]), sum(sizes[group]), applies)
    for group, applies in applied.items()
    if group in sizes
  ]


def _group_name(train: bool, decayed: bool, clipped: bool) -> str:
  if not train:
    return 'frozen'
  if not clipped:
    return 'classifier weight'
  return 'weights' if decayed else 'gains and biases'


def _what_applies(
  name: str,
  weight_decay: float,
  layer_decay: float,
  clip: Sequence[str],
  head_clip: Sequence[str],
) -> dict[str, str]:
  """Returns {group name: what the optimizer does to it}, in printing order."""
  decay = [f'weight decay {weight_decay:g}'] if weight_decay else []
  method = {'sgd': 'momentum', 'adamw': 'Adam', 'lamb': 'LAMB'}[name]
  layers = [] if layer_decay == 1 else [f'layer decay {layer_decay:g}']
  return {
    'weights': ', '.join([*clip, *decay, method, *layers]),
    'gains and biases': ', '.join([*clip, method, *layers]),
    # The topmost layer has the full learning rate.
    'classifier weight': ', '.join([*head_clip, *decay, method]),
    'frozen': 'nothing',
  }
