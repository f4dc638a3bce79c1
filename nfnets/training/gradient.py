"""Loss and gradient on one device's part of a batch.

Nothing here knows about other devices: `step.py` averages the results.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from nfnets import losses
from nfnets.augment import preprocess as preprocess_lib
from nfnets.models import registry
from nfnets.optim import sam
from nfnets.training import devices

# Folded into the seed's key for the network's draws (dropout, stochastic
# depth). No step number is this large, so these keys differ from those of the
# augmentation, fold_in(key(seed), step).
_MODEL_STREAM = 2**32 - 1

Metrics: TypeAlias = dict[str, jax.Array]
# Augmented images, float32[b, S, S, 3], soft labels, float32[b, K], and the
# network's random keys, key[b].
Examples: TypeAlias = tuple[jax.Array, jax.Array, jax.Array]
# Sums of gradients and metrics, and the network's state, between micro-batches.
_Carry: TypeAlias = tuple[tuple[optax.Updates, Metrics], registry.State]


class Gradient(NamedTuple):
  """Mean over the examples of one device.

  Attributes:
    grads: float32, structured like the parameters.
    state: the network's new state.
    metrics: {'loss': float32[], 'top1': float32[]}.
  """

  grads: optax.Updates
  state: registry.State
  metrics: Metrics


# (params, state, step, one device's part of the batch) -> Gradient
GradientFn: TypeAlias = Callable[
  [registry.Params, registry.State, jax.Array, devices.DeviceBatch], Gradient
]


def make_gradient(
  model: registry.Model,
  preprocess: preprocess_lib.Preprocess,
  *,
  label_smoothing: float = 0.0,
  class_weights: np.ndarray | None = None,
  dtype: str = 'float32',
  accumulation: int = 1,
  sam_rho: float | None = None,
  sam_share: float = 0.2,
  seed: int = 0,
) -> GradientFn:
  """Builds the function that each device computes its gradient with.

  Args:
    model: the network.
    preprocess: uint8 images -> augmented images and soft labels.
    label_smoothing: fraction of the label spread over all classes.
    class_weights: float32[K], factors on the loss by the label before
      smoothing, see `losses.example_weights`; None: all 1. The mean is over the
      number of examples, not over their weights, so it does not depend on how
      the batch is divided.
    dtype: 'float32' or 'bfloat16', the dtype of weights and images in the
      forward and backward pass. Master weights, gradients once they leave the
      backward pass, momentum, averages and running statistics are float32.
    accumulation: number of micro-batches that each device's part is split into.
    sam_rho: ascent distance of sharpness-aware minimization; None disables it.
      Each micro-batch on each device makes its own ascent.
    sam_share: fraction of the micro-batch used for the ascent gradient.
    seed: seed of augmentation, dropout and stochastic depth.

  Returns:
    (params, state, step, batch) -> `Gradient`. batch: see
    `devices.shard_batch`, without the axis of devices.
  """
  folded, fold = registry.folded(model)
  # A single micro-batch gains nothing from folding, and SAM must ascend in the
  # parameters themselves, not in the folded ones.
  fold_once = accumulation > 1 and sam_rho is None
  network = folded if fold_once else model
  loss_fn = functools.partial(
    _loss, network, jnp.dtype(dtype), label_smoothing, class_weights
  )

  def micro_batch(
    params: registry.Params,
    state: registry.State,
    step: jax.Array,
    batch: devices.DeviceBatch,
  ) -> Gradient:
    examples = _augmented(preprocess, seed, step, batch)
    grad_fn = functools.partial(
      jax.grad(loss_fn, argnums=1, has_aux=True), state
    )
    if sam_rho is None:
      grads, (state, metrics) = grad_fn(params, examples)
    else:
      grads, (state, metrics) = sam.sam_gradient(
        grad_fn, params, sam_rho, examples, sam_share=sam_share
      )
    return Gradient(grads, state, metrics)

  if accumulation == 1:
    return micro_batch
  mean = functools.partial(_accumulate, micro_batch, accumulation)
  return functools.partial(_through, fold, mean) if fold_once else mean


def _through(
  fold: Callable[[registry.Params], registry.Params],
  gradient_fn: GradientFn,
  params: registry.Params,
  state: registry.State,
  step: jax.Array,
  batch: devices.DeviceBatch,
) -> Gradient:
  """Computes the gradient at `fold(params)` and pulls it back to `params`.

  The filters are standardized, and that is differentiated, once per step
  instead of once per micro-batch.
  """
  folded, transpose = jax.vjp(fold, params)
  result = gradient_fn(folded, state, step, batch)
  return result._replace(grads=transpose(result.grads)[0])


def _augmented(
  preprocess: preprocess_lib.Preprocess,
  seed: int,
  step: jax.Array,
  batch: devices.DeviceBatch,
) -> Examples:
  """Returns images, soft labels and the network's random keys.

  The augmentation of an example and its masks in the network depend only on
  seed, step and the example's index in the global batch, not on the number of
  devices or micro-batches. This needs threefry: with other generators of JAX
  (JAX_DEFAULT_PRNG_IMPL), the numbers drawn for a key depend on the keys drawn
  for beside it.
  """
  key = jax.random.key(seed, impl='threefry2x32')
  index = batch['index'][:: preprocess.images_per_example]
  index = index // preprocess.images_per_example
  with jax.named_scope('augment'):
    images, labels = preprocess.apply(
      jax.random.fold_in(key, step), batch['image'], batch['label'], index
    )
  model_key = jax.random.fold_in(key, jnp.uint32(_MODEL_STREAM))
  model_key = jax.random.fold_in(model_key, step)
  keys = jax.vmap(lambda i: jax.random.fold_in(model_key, i))(index)
  return images, labels, keys


def _loss(
  model: registry.Model,
  dtype: jnp.dtype,
  label_smoothing: float,
  class_weights: np.ndarray | None,
  state: registry.State,
  params: registry.Params,
  examples: Examples,
) -> tuple[jax.Array, tuple[registry.State, Metrics]]:
  """Returns a micro-batch's mean loss, and the new state and metrics.

  The gradient is float32, since the casts to `dtype` are part of the function.
  Running statistics are not cast: in bfloat16 a moving average with decay 0.9
  loses most of what is added to it.
  """
  images, labels, keys = examples
  cast = functools.partial(jax.tree.map, lambda x: x.astype(dtype))
  (logits, _), new_state = model.apply(
    cast(params), state, keys, images.astype(dtype), True
  )
  new_state = jax.tree.map(lambda old, x: x.astype(old.dtype), state, new_state)
  logits = logits.astype(jnp.float32)
  smooth = losses.smooth_labels(labels, label_smoothing)
  rows = losses.softmax_cross_entropy(logits, smooth)
  if class_weights is not None:
    rows *= losses.example_weights(labels, jnp.asarray(class_weights))
  loss = jnp.mean(rows)
  # For mixed examples the class with the larger weight counts as correct; the
  # published code takes the first of the two labels, whichever is larger.
  right = jnp.argmax(logits, -1) == jnp.argmax(labels, -1)
  metrics = {'loss': loss, 'top1': jnp.mean(right, dtype=jnp.float32)}
  return loss, (new_state, metrics)


def _accumulate(
  micro_batch: GradientFn,
  count: int,
  params: registry.Params,
  state: registry.State,
  step: jax.Array,
  batch: devices.DeviceBatch,
) -> Gradient:
  """Averages `micro_batch` over `count` contiguous parts, one after another.

  Each part is augmented in its own turn: only one micro-batch at a time is in
  floating point.
  """
  parts = jax.tree.map(
    lambda x: x.reshape((count, x.shape[0] // count) + x.shape[1:]), batch
  )

  def turn(carry: _Carry, part: devices.DeviceBatch) -> tuple[_Carry, None]:
    total, state = carry
    grads, state, metrics = micro_batch(params, state, step, part)
    total = jax.tree.map(jnp.add, total, (grads, metrics))
    return (total, state), None

  zero = {'loss': jnp.zeros(()), 'top1': jnp.zeros(())}
  total = jax.tree.map(jnp.zeros_like, params), zero
  (total, state), _ = lax.scan(turn, (total, state), parts)
  grads, metrics = jax.tree.map(lambda x: x / count, total)
  return Gradient(grads, state, metrics)
