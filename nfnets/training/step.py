"""The programs compiled for all devices: train step, evaluation, replica check.

This is the only file that calls `jax.pmap`. State enters and leaves replicated,
with its natural shapes (`in_axes` and `out_axes` None); a batch has a leading
axis of local devices. `out_axes=None` returns the first device's value without
checking the others, so every output is averaged or summed over the devices
first.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from nfnets import losses, xla
from nfnets.augment import preprocess as preprocess_lib
from nfnets.models import registry
from nfnets.optim import ema
from nfnets.training import devices, gradient
from nfnets.training import state as state_lib

Tree = TypeVar('Tree', bound=chex.ArrayTree)
Scalars: TypeAlias = dict[str, jax.Array]
# Compiled at the first call, or before by `lower(...).compile()`.
# (TrainState, DeviceBatch) -> (TrainState, Scalars)
TrainStep: TypeAlias = jax.stages.Wrapped
# (Params, State, DeviceBatch) -> {name: the rows' values}
EvalStep: TypeAlias = jax.stages.Wrapped
Fold: TypeAlias = Callable[[registry.Params], registry.Params]


def make_train_step(
  gradient_fn: gradient.GradientFn,
  optimizer: optax.GradientTransformation,
  *,
  schedule: optax.Schedule,
  ema_decay: float | None = None,
  targets: Sequence[jax.Device] | None = None,
) -> TrainStep:
  """Builds the program that training repeats.

  Each device computes the gradient of its part of the batch; the gradients are
  averaged over all devices of all processes, and every device makes the same
  update. A step with a loss or gradient that is not finite leaves the state
  unchanged, bit for bit, and reports it. If `state.skips` is not None, it only
  advances the step number and counts the step as skipped; the learning rate and
  the decay of the average then follow the number of updates.

  Args:
    gradient_fn: from `gradient.make_gradient`.
    optimizer: applied to the averaged gradient of the whole batch.
    schedule: the optimizer's learning rate, for reporting.
    ema_decay: largest decay of the moving average; None keeps none.
    targets: devices of a topology to compile for; None: all devices.

  Returns:
    train_step(state, batch) -> (state, scalars). `state` is replicated
    (`devices.replicate`) and donated; `batch` comes from
    `devices.shard_batch`. Scalars, float32[]: 'loss', 'top1', 'grad_norm'
    (before clipping), 'agc_clipped' (fraction of units, if the optimizer
    clips), 'learning_rate', and 'finite' (1, or 0 if the step was not applied);
    with `state.skips` also 'skipped' and 'skipped_in_a_row', its counts after
    this step.

  References:
    Brock et al, `High-Performance Large-Scale Image Recognition Without
    Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, appendix A.
  """

  def train_step(
    state: state_lib.TrainState, batch: devices.DeviceBatch
  ) -> tuple[state_lib.TrainState, Scalars]:
    result = gradient_fn(state.params, state.state, state.step, batch)
    grads, net_state, scalars = _mean_over_devices(result)
    scalars['grad_norm'] = xla.global_norm(grads)
    finite = jnp.isfinite(scalars['loss'] + scalars['grad_norm'])
    skips = state.skips
    updates = state.step if skips is None else state.step - skips.total
    update = functools.partial(
      _update, optimizer, ema_decay, state, updates, grads, net_state
    )
    new = xla.update_if(finite, update, state)
    clipped = optax.tree.get(new.opt_state, 'clipped')
    if clipped is not None:
      scalars['agc_clipped'] = clipped
    scalars['learning_rate'] = jnp.asarray(schedule(updates), jnp.float32)
    scalars['finite'] = finite.astype(jnp.float32)
    if skips is not None:
      skips = _count(skips, finite)
      new = new._replace(step=state.step + 1, skips=skips)
      scalars['skipped'] = skips.total.astype(jnp.float32)
      scalars['skipped_in_a_row'] = skips.in_a_row.astype(jnp.float32)
    return new, scalars

  return jax.pmap(
    train_step,
    axis_name=devices.AXIS,
    in_axes=(None, 0),
    out_axes=(None, None),
    devices=targets,
    donate_argnums=(0,),
  )


def _mean_over_devices(tree: Tree) -> Tree:
  """Averages floats; integers, such as counters, are equal on all devices."""
  # XLA would copy the arrays to average over a single device.
  if lax.axis_size(devices.AXIS) == 1:
    return tree
  leaves, treedef = jax.tree.flatten(tree)
  floats = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
  means = iter(lax.pmean(floats, devices.AXIS))
  # A mean of integers would be a float.
  return treedef.unflatten(
    [
      next(means)
      if jnp.issubdtype(x.dtype, jnp.floating)
      else lax.pmax(x, devices.AXIS)
      for x in leaves
    ]
  )


def _count(skips: state_lib.Skips, finite: jax.Array) -> state_lib.Skips:
  return state_lib.Skips(
    total=jnp.where(finite, skips.total, skips.total + 1),
    in_a_row=jnp.where(finite, 0, skips.in_a_row + 1),
  )


def _update(
  optimizer: optax.GradientTransformation,
  ema_decay: float | None,
  state: state_lib.TrainState,
  count: jax.Array,
  grads: optax.Updates,
  net_state: registry.State,
) -> state_lib.TrainState:
  """Returns the state after one update, the same on every device.

  `count` is the number of updates before this one.
  """
  with jax.named_scope('optimizer'):
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
  averages = state.ema_params, state.ema_state
  if ema_decay is not None:
    averages = ema.ema_update(averages, (params, net_state), count, ema_decay)
  return state_lib.TrainState(
    params, net_state, opt_state, *averages, state.step + 1, state.skips
  )


def make_eval_step(
  model: registry.Model,
  *,
  mean: Sequence[float],
  std: Sequence[float],
  targets: Sequence[jax.Device] | None = None,
) -> EvalStep:
  """Builds the program that evaluates the network on one batch.

  Args:
    model: the network.
    mean: mean of each channel, as a fraction of 255.
    std: standard deviation of each channel, as a fraction of 255.
    targets: as in `make_train_step`.

  Returns:
    eval_step(params, state, batch) -> the rows of all devices of all processes,
    in any order: 'index' (in the global batch), 'label', 'predicted', 'mask'
    and, with more than five classes, 'top5' (whether the true class is among
    the five most likely), int32[b]; 'confidence' (the probability of the
    predicted class) and 'loss' (nats, without label smoothing), float32[b].
  """

  def eval_step(
    params: registry.Params, state: registry.State, batch: devices.DeviceBatch
  ) -> dict[str, jax.Array]:
    images = preprocess_lib.normalize(batch['image'], mean, std)
    (logits, _), _ = model.apply(params, state, None, images, False)
    labels = batch['label']
    one_hot = jax.nn.one_hot(labels, logits.shape[-1])
    integers = {
      'index': batch['index'],
      'label': labels,
      'predicted': jnp.argmax(logits, axis=-1),
      'mask': batch['mask'],
    }
    if logits.shape[-1] > 5:
      integers['top5'] = losses.top_k_correct(logits, labels, 5)
    rows = {k: x.astype(jnp.int32) for k, x in integers.items()}
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    rows['confidence'] = jnp.max(probabilities, axis=-1)
    rows['loss'] = losses.softmax_cross_entropy(logits, one_hot)
    return lax.all_gather(rows, devices.AXIS, tiled=True)

  return jax.pmap(
    eval_step,
    axis_name=devices.AXIS,
    in_axes=(None, None, 0),
    out_axes=None,
    devices=targets,
  )


def make_fold(fold: Fold) -> Fold:
  """Builds the program that prepares the weights for evaluation.

  Args:
    fold: params -> params of the network to evaluate.

  Returns:
    The same function from replicated to replicated params.
  """
  return _on_every_device(fold)


def make_replica_check() -> Callable[[chex.ArrayTree], jax.Array]:
  """Builds the program that compares the replicas of a pytree.

  Returns:
    check(tree) -> bool[], whether all devices of all processes hold the same
    bits.
  """

  def check(tree: chex.ArrayTree) -> jax.Array:
    digest = _digest(jax.tree.leaves(tree))
    return lax.pmax(digest, devices.AXIS) == lax.pmin(digest, devices.AXIS)

  return _on_every_device(check)


def _on_every_device(
  function: Callable[[chex.ArrayTree], Tree],
) -> Callable[[chex.ArrayTree], Tree]:
  """Compiles a function of one replicated pytree for all devices."""
  program = jax.pmap(
    lambda tree, ones: function(tree),
    axis_name=devices.AXIS,
    in_axes=(None, 0),
    out_axes=None,
  )
  # pmap takes the number of devices from a mapped argument.
  ones = np.ones((jax.local_device_count(), 1), np.float32)
  return lambda tree: program(tree, ones)


def _digest(arrays: Sequence[jax.Array]) -> jax.Array:
  """Hashes the bits of arrays of 32-bit numbers to a uint32.

  Each number is scrambled together with its position before they are summed. A
  plain or weighted sum of the bits would miss errors that cancel, such as the
  lowest bit flipped up in one array and down in another.
  """
  digest = jnp.zeros((), jnp.uint32)
  first = 0
  for x in arrays:
    bits = lax.bitcast_convert_type(x, jnp.uint32).ravel()
    position = jnp.uint32(first % 2**32) + lax.iota(jnp.uint32, bits.size)
    digest += jnp.sum(_scramble(bits ^ _scramble(position)), dtype=jnp.uint32)
    first += bits.size
  return digest


def _scramble(x: jax.Array) -> jax.Array:
  """Applies a bijection of uint32 in which each bit depends on all bits.

  References:
    Appleby, `MurmurHash3 <https://github.com/aappleby/smhasher>`_, 2011, the
    finalizer of the 32-bit variant.
  """
  for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
    x = (x ^ (x >> jnp.uint32(shift))) * jnp.uint32(factor)
  return x ^ (x >> jnp.uint32(16))
