"""Loss and gradient of one device's part of the batch, before any averaging.

Nothing here knows of other devices: `step.py` averages what comes out.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from nfnets import losses
from nfnets.augment import preprocess as preprocess_lib
from nfnets.models import registry
from nfnets.optim import sam

# Folded into the seed's key for what the network draws (dropout, stochastic
# depth). No step number reaches it, so these keys meet none of the
# augmentation's, which come from fold_in(key(seed), step).
_MODEL_STREAM = 2**32 - 1


class Gradient(NamedTuple):
  """Mean over the examples of one device.

  Attributes:
    grads: float32, structure of the parameters.
    state: the network's new state.
    metrics: {'loss': float32[], 'top1': float32[]}.
  """

  grads: Any
  state: Any
  metrics: dict[str, jax.Array]


# (params, state, step, batch) -> Gradient
GradientFn = Callable[..., Gradient]


def make_gradient(
  model: registry.Model,
  preprocess: preprocess_lib.Preprocess,
  *,
  label_smoothing: float = 0.0,
  dtype: str = 'float32',
  accumulation: int = 1,
  sam_rho: float | None = None,
  sam_share: float = 0.2,
  seed: int = 0,
) -> GradientFn:
  """Makes the function that one device runs on its part of a batch.

  Args:
    model: the network.
    preprocess: uint8 images -> augmented images and soft labels.
    label_smoothing: fraction of the label spread over all classes.
    dtype: 'float32' or 'bfloat16', of weights and images in the forward and
      backward pass. Weights between steps, gradients once they leave the
      backward pass, momentum, averages and running statistics are float32.
    accumulation: micro-batches that each device's part is split into.
    sam_rho: ascent distance of sharpness-aware minimization; None disables it.
      Each micro-batch of each device takes its own ascent.
    sam_share: fraction of the micro-batch that the ascent gradient sees.
    seed: of augmentation, dropout and stochastic depth.

  Returns:
    (params, state, step, batch) -> `Gradient`, batch as in `shard_batch`.
  """
  folded, fold = registry.folded(model)
  # A micro-batch by itself gains nothing from folding, and the ascent of SAM is
  # one in the parameters as they are.
  fold_once = accumulation > 1 and sam_rho is None
  network = folded if fold_once else model
  loss_fn = functools.partial(_loss, network, jnp.dtype(dtype), label_smoothing)

  def micro_batch(params: Any, state: Any, step: jax.Array, batch: Any) -> Any:
    examples, model_key = _augmented(preprocess, seed, step, batch)

    def grad_fn(params: Any, examples: Any) -> tuple[Any, Any]:
      return jax.grad(loss_fn, has_aux=True)(params, state, model_key, examples)

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
  fold: Callable[[Any], Any],
  gradient: GradientFn,
  params: Any,
  state: Any,
  step: jax.Array,
  batch: Any,
) -> Gradient:
  """The gradient at `fold(params)`, led back to the parameters.

  So the filters are standardized, and the derivative of that is taken, once per
  step and not once per micro-batch.
  """
  folded, transpose = jax.vjp(fold, params)
  result = gradient(folded, state, step, batch)
  return result._replace(grads=transpose(result.grads)[0])


def _augmented(
  preprocess: preprocess_lib.Preprocess, seed: int, step: jax.Array, batch: Any
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
  """Images and soft labels for the network, and the network's random key.

  The augmentation of an example depends on seed, step and the example's place
  in the whole batch alone. The network draws its masks for a micro-batch at
  once, from seed, step and the place of the micro-batch's first example: they
  depend on the size of the micro-batches but not on which device, or which
  turn of the accumulation, a micro-batch falls to.
  """
  key = jax.random.key(seed)
  index = batch['index'][:: preprocess.images_per_example]
  index = index // preprocess.images_per_example
  with jax.named_scope('augment'):
    examples = preprocess.apply(
      jax.random.fold_in(key, step), batch['image'], batch['label'], index
    )
  model_key = jax.random.fold_in(key, jnp.uint32(_MODEL_STREAM))
  model_key = jax.random.fold_in(model_key, step)
  return examples, jax.random.fold_in(model_key, index[0])


def _loss(
  model: registry.Model,
  dtype: jnp.dtype,
  label_smoothing: float,
  params: Any,
  state: Any,
  key: jax.Array,
  examples: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, tuple[Any, dict[str, jax.Array]]]:
  """Mean loss of a micro-batch; the casts give float32 gradients.

  Running statistics are not cast: in bfloat16 a moving average with decay 0.9
  loses most of what is added to it.
  """
  images, labels = examples
  cast = functools.partial(jax.tree.map, lambda x: x.astype(dtype))
  (logits, _), new_state = model.apply(
    cast(params), state, key, images.astype(dtype), True
  )
  new_state = jax.tree.map(lambda old, x: x.astype(old.dtype), state, new_state)
  logits = logits.astype(jnp.float32)
  smooth = losses.smooth_labels(labels, label_smoothing)
  loss = jnp.mean(losses.softmax_cross_entropy(logits, smooth))
  # A mixed example counts as right when the class of its larger share is
  # found; the published code looks at the first of the two labels, whatever
  # its share.
  right = jnp.argmax(logits, -1) == jnp.argmax(labels, -1)
  metrics = {'loss': loss, 'top1': jnp.mean(right, dtype=jnp.float32)}
  return loss, (new_state, metrics)


def _accumulate(
  micro_batch: GradientFn,
  count: int,
  params: Any,
  state: Any,
  step: jax.Array,
  batch: Any,
) -> Gradient:
  """Mean of `micro_batch` over `count` contiguous parts, one after another.

  Augmentation happens inside each turn: only one micro-batch is held in
  floating point at a time.
  """
  parts = jax.tree.map(
    lambda x: x.reshape((count, x.shape[0] // count) + x.shape[1:]), batch
  )

  def turn(carry: tuple[Any, Any], part: Any) -> tuple[tuple[Any, Any], None]:
    total, state = carry
    grads, state, metrics = micro_batch(params, state, step, part)
    total = jax.tree.map(jnp.add, total, (grads, metrics))
    return (total, state), None

  zero = {'loss': jnp.zeros(()), 'top1': jnp.zeros(())}
  total = jax.tree.map(jnp.zeros_like, params), zero
  (total, state), _ = lax.scan(turn, (total, state), parts)
  grads, metrics = jax.tree.map(lambda x: x / count, total)
  return Gradient(grads, state, metrics)
