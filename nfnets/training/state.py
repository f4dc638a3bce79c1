"""Everything that a training run carries from one step to the next."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from nfnets.models import registry


class TrainState(NamedTuple):
  """What a step reads and replaces; the checkpoint holds all of it.

  Data and random numbers are functions of the step, so that nothing else is
  carried.

  Attributes:
    params: float32 master weights, {module: {name: array}}.
    state: the network's own state (running statistics), {} in most families.
    opt_state: the optimizer's.
    ema_params: float32 moving average of `params`; {} where none is kept.
    ema_state: moving average of `state`; {} where none is kept.
    step: int32[], updates made so far.
  """

  params: Any
  state: Any
  opt_state: Any
  ema_params: Any
  ema_state: Any
  step: jax.Array


def from_params(
  params: Any,
  state: Any,
  optimizer: optax.GradientTransformation,
  *,
  ema: bool = True,
) -> TrainState:
  """The state before the first step, from given parameters.

  Args:
    params: the initial weights, whether drawn or read from a file.
    state: the network's initial state.
    optimizer: as given to `step.make_train_step`.
    ema: whether a moving average is kept.
  """
  return TrainState(
    params=params,
    state=state,
    opt_state=optimizer.init(params),
    # Copies: the step donates its state, and no buffer can be given twice.
    ema_params=jax.tree.map(jnp.copy, params) if ema else {},
    ema_state=jax.tree.map(jnp.copy, state) if ema else {},
    step=jnp.zeros((), jnp.int32),
  )


def create_train_state(
  model: registry.Model,
  optimizer: optax.GradientTransformation,
  key: jax.Array,
  image_size: int,
  *,
  ema: bool = True,
) -> TrainState:
  """Initializes the network and what is kept beside it.

  Args:
    model: the network.
    optimizer: as given to `step.make_train_step`.
    key: random key of the initial weights.
    image_size: side of the training images in pixels.
    ema: whether a moving average of the weights is kept.
  """
  images = jnp.zeros((2, image_size, image_size, 3), jnp.float32)

  @jax.jit
  def init(key: jax.Array) -> TrainState:
    return from_params(*model.init(key, images), optimizer, ema=ema)

  return init(key)
