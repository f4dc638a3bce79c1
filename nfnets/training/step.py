"""The compiled programs: a train step, an evaluation step, a replica check.

This is the only file that calls `jax.pmap`. State enters and leaves replicated
with its natural shapes (`in_axes` and `out_axes` None); a batch has a leading
axis of local devices. `out_axes=None` takes the first device's word for all,
so that every output is averaged or summed over the devices first.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from nfnets import losses, xla
from nfnets.augment import preprocess as preprocess_lib
from nfnets.models import registry
from nfnets.optim import ema
from nfnets.training import gradient
from nfnets.training import state as state_lib

AXIS = 'devices'
Scalars = dict[str, jax.Array]
TrainStep = Callable[
  [state_lib.TrainState, Any], tuple[state_lib.TrainState, Scalars]
]
EvalStep = Callable[[Any, Any, Any], Scalars]


def make_train_step(
  gradient_fn: gradient.GradientFn,
  optimizer: optax.GradientTransformation,
  *,
  schedule: optax.Schedule,
  ema_decay: float | None = None,
) -> TrainStep:
  """Makes the one program that training repeats.

  Each device computes the gradient of its part of the batch; the gradients are
  averaged over all devices of all processes, and every device makes the same
  update. A step whose loss or gradient is not finite leaves the state as it
  was, to the bit, and reports it.

  Args:
    gradient_fn: from `gradient.make_gradient`.
    optimizer: gradients -> updates; acts on the averaged, accumulated gradient.
    schedule: the optimizer's own, to report the learning rate.
    ema_decay: largest decay of the moving average; None keeps none.

  Returns:
    train_step(state, batch) -> (state, scalars). `state` is replicated
    (`devices.replicate`) and donated; `batch` comes from
    `devices.shard_batch`. Scalars, float32[]: 'loss', 'top1', 'grad_norm'
    (before clipping), 'agc_clipped' (fraction of units), 'learning_rate', and
    'finite' (1, or 0 where the step was not applied).

  References:
    Brock et al, `High-Performance Large-Scale Image Recognition Without
    Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, appendix A.
  """

  def train_step(
    state: state_lib.TrainState, batch: Any
  ) -> tuple[state_lib.TrainState, Scalars]:
    result = gradient_fn(state.params, state.state, state.step, batch)
    grads, net_state, scalars = _mean_over_devices(result)
    scalars['grad_norm'] = xla.global_norm(grads)
    finite = jnp.isfinite(scalars['loss'] + scalars['grad_norm'])
    update = functools.partial(
      _update, optimizer, ema_decay, state, grads, net_state
    )
    new = xla.update_if(finite, update, state)
    scalars['agc_clipped'] = optax.tree.get(
      new.opt_state, 'clipped', jnp.zeros(())
    )
    scalars['learning_rate'] = jnp.asarray(schedule(state.step), jnp.float32)
    scalars['finite'] = finite.astype(jnp.float32)
    return new, scalars

  return jax.pmap(
    train_step,
    axis_name=AXIS,
    in_axes=(None, 0),
    out_axes=(None, None),
    donate_argnums=(0,),
  )


def _mean_over_devices(tree: Any) -> Any:
  # A sum over one device is a copy to XLA.
  return lax.pmean(tree, AXIS) if lax.axis_size(AXIS) > 1 else tree


def _update(
  optimizer: optax.GradientTransformation,
  ema_decay: float | None,
  state: state_lib.TrainState,
  grads: Any,
  net_state: Any,
) -> state_lib.TrainState:
  """The state after one update, alike on every device."""
  with jax.named_scope('optimizer'):
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
  averages = state.ema_params, state.ema_state
  if ema_decay is not None:
    averages = ema.ema_update(
      averages, (params, net_state), state.step, ema_decay
    )
  return state_lib.TrainState(
    params, net_state, opt_state, *averages, step=state.step + 1
  )


def make_eval_step(
  model: registry.Model, *, mean: Sequence[float], std: Sequence[float]
) -> EvalStep:
  """Makes the program that counts hits in one batch.

  Args:
    model: the network.
    mean: of each channel, as a share of 255.
    std: standard deviation of each channel, as a share of 255.

  Returns:
    eval_step(params, state, batch) -> sums over the rows of all devices whose
    'mask' is True: 'top1', 'top5', 'count' (int32[]) and 'loss' (float32[],
    nats, without label smoothing).
  """

  def eval_step(params: Any, state: Any, batch: Any) -> Scalars:
    images = preprocess_lib.normalize(batch['image'], mean, std)
    (logits, _), _ = model.apply(params, state, None, images, False)
    labels = batch['label']
    one_hot = jax.nn.one_hot(labels, logits.shape[-1])
    rows = {
      'top1': losses.top_k_correct(logits, labels, 1).astype(jnp.int32),
      'top5': losses.top_k_correct(logits, labels, 5).astype(jnp.int32),
      'loss': losses.softmax_cross_entropy(logits, one_hot),
      'count': jnp.ones_like(labels),
    }
    # Chosen, not multiplied: whatever fills a padded row does not leak.
    sums = jax.tree.map(
      lambda x: jnp.sum(jnp.where(batch['mask'], x, jnp.zeros_like(x))), rows
    )
    return lax.psum(sums, AXIS)

  return jax.pmap(
    eval_step, axis_name=AXIS, in_axes=(None, None, 0), out_axes=None
  )


def make_fold(fold: Callable[[Any], Any]) -> Callable[[Any], Any]:
  """Makes the program that every device prepares its weights with.

  Args:
    fold: params -> params of the network that is evaluated.

  Returns:
    The same function from replicated to replicated params.
  """
  return _on_every_device(fold)


def make_replica_check() -> Callable[[Any], jax.Array]:
  """Makes the program that compares the replicas of a pytree.

  Returns:
    check(tree) -> bool[], whether every device of every process holds the
    same bits.
  """

  def check(tree: Any) -> jax.Array:
    digest = sum(
      map(_bit_sum, jax.tree.leaves(tree)), jnp.zeros((), jnp.uint32)
    )
    return lax.pmax(digest, AXIS) == lax.pmin(digest, AXIS)

  return _on_every_device(check)


def _on_every_device(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
  """A program of a replicated pytree alone."""
  program = jax.pmap(
    lambda tree, ones: function(tree),
    axis_name=AXIS,
    in_axes=(None, 0),
    out_axes=None,
  )
  # They tell pmap how many devices there are.
  ones = np.ones((jax.local_device_count(), 1), np.float32)
  return lambda tree: program(tree, ones)


def _bit_sum(x: jax.Array) -> jax.Array:
  """uint32[]: the bits of an array, weighted by an odd number per place."""
  bits = lax.bitcast_convert_type(x, jnp.uint32).ravel()
  weights = 2 * lax.iota(jnp.uint32, bits.size) + 1
  return jnp.sum(bits * weights, dtype=jnp.uint32)
