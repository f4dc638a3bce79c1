"""Everything that a training run carries from one step to the next."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from nfnets.models import registry


class Skips(NamedTuple):
  """Counts of the steps that were not applied, as they were not finite.

  Attributes:
    total: int32[], in the whole run.
    in_a_row: int32[], since the last step that was applied.
  """

  total: jax.Array
  in_a_row: jax.Array


class TrainState(NamedTuple):
  """What a step reads and replaces; a checkpoint holds all of it.

  Data and random numbers are functions of the step, so nothing else is
  carried.

  Attributes:
    params: float32 master weights, {module: {name: array}}.
    state: the network's own state (running statistics), {} for most families.
    opt_state: the optimizer's state.
    ema_params: float32 moving average of `params`; {} if none is kept.
    ema_state: moving average of `state`; {} if none is kept.
    step: int32[], number of steps so far.
    skips: how many of them were skipped; None if such a step ends the run.
  """

  params: registry.Params
  state: registry.State
  opt_state: optax.OptState
  ema_params: registry.Params
  ema_state: registry.State
  step: jax.Array
  skips: Skips | None = None


def from_params(
  params: registry.Params,
  state: registry.State,
  optimizer: optax.GradientTransformation,
  *,
  ema: bool = True,
  skips: bool = False,
) -> TrainState:
  """Builds the state before the first step from given parameters.

  Args:
    params: the initial weights, random or read from a file.
    state: the network's initial state.
    optimizer: the optimizer given to `step.make_train_step`.
    ema: whether to keep a moving average.
    skips: whether to skip and count steps that are not finite.
  """
  return TrainState(
    params=params,
    state=state,
    opt_state=optimizer.init(params),
    # Copies: the step donates its state, and a buffer can be donated only once.
    ema_params=jax.tree.map(jnp.copy, params) if ema else {},
    ema_state=jax.tree.map(jnp.copy, state) if ema else {},
    step=_zero(),
    skips=Skips(_zero(), _zero()) if skips else None,
  )


def _zero() -> jax.Array:
  return jnp.zeros((), jnp.int32)


def create_train_state(
  model: registry.Model,
  optimizer: optax.GradientTransformation,
  key: jax.Array,
  image_size: int,
  *,
  ema: bool = True,
  skips: bool = False,
) -> TrainState:
  """Initializes the network and builds the state before the first step.

  Args:
    model: the network.
    optimizer: the optimizer given to `step.make_train_step`.
    key: random key for the initial weights.
    image_size: side of the training images in pixels.
    ema: whether to keep a moving average.
    skips: whether to skip and count steps that are not finite.
  """
  images = jnp.zeros((2, image_size, image_size, 3), jnp.float32)

  @jax.jit
  def init(key: jax.Array) -> TrainState:
    params, net_state = model.init(key, images)
    return from_params(params, net_state, optimizer, ema=ema, skips=skips)

  return init(key)
