"""Initial parameters, all from one random draw.

Haiku draws each parameter where the network first uses it: this compiles
hundreds of random generators, and runs or compiles the whole network. Here the
network is only traced, to record its parameters; all of them are then slices of
one draw, in the order in which the network creates them.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import haiku as hk
import jax
from jax import numpy as jnp

from nfnets import xla
from nfnets.models.types import Params, State

T = TypeVar('T')
Init = Callable[[jax.Array, jax.Array], tuple[Params, State]]


class _Parameter(NamedTuple):
  """A parameter as the network requests it."""

  module: str
  name: str
  shape: tuple[int, ...]
  dtype: jnp.dtype
  initializer: hk.initializers.Initializer


def make_init(forward: Callable[[jax.Array, bool, jax.Array], T]) -> Init:
  """Creates a network's `init`.

  Args:
    forward: function of Haiku modules, (images, is_training, one random key per
      image) -> outputs.

  Returns:
    (key, images) -> (params, state). Equal keys give equal parameters; the
    values of the images have no effect. It can be traced.
  """

  @jax.jit
  def init(key: jax.Array, images: jax.Array) -> tuple[Params, State]:
    parameters: list[_Parameter] = []

    def create(
      create_next: Callable[..., jax.Array],
      shape: Sequence[int],
      dtype: jnp.dtype,
      initializer: hk.initializers.Initializer,
      context: hk.GetterContext,
    ) -> jax.Array:
      del create_next
      module, name = context.full_name.rsplit('/', 1)
      parameters.append(
        _Parameter(module, name, tuple(shape), dtype, initializer)
      )
      return jnp.zeros(shape, dtype)

    def recorded(images: jax.Array) -> T:
      with hk.custom_creator(create):
        return forward(images, True, jax.random.split(key, images.shape[0]))

    # The outputs of the network are not used, so it is traced, not compiled.
    _, state = hk.transform_with_state(recorded).init(key, images)
    return _draw_all(key, parameters), state

  return init


def _draw_all(key: jax.Array, parameters: list[_Parameter]) -> Params:
  """Slices and scales one draw per distribution into all parameters."""
  sizes: dict[str, int] = dict.fromkeys(_UNIT_DRAWS, 0)
  for parameter in parameters:
    if scaled := _as_scaled(parameter):
      sizes[scaled.unit] += math.prod(parameter.shape)
  units = {
    unit: _UNIT_DRAWS[unit](jax.random.fold_in(key, i), (size,))
    for i, (unit, size) in enumerate(sizes.items())
  }
  # Otherwise XLA copies the random generator into every parameter.
  units = xla.materialize(units)
  params: Params = {}
  taken = dict.fromkeys(_UNIT_DRAWS, 0)
  for parameter in parameters:
    scaled = _as_scaled(parameter)
    if scaled is None:
      value = parameter.initializer(parameter.shape, parameter.dtype)
    else:
      start = taken[scaled.unit]
      taken[scaled.unit] = start + math.prod(parameter.shape)
      draw = units[scaled.unit][start : taken[scaled.unit]]
      value = scaled.mean + scaled.stddev * draw.reshape(parameter.shape)
    params.setdefault(parameter.module, {})[parameter.name] = value.astype(
      parameter.dtype
    )
  return params


class _Scaled(NamedTuple):
  """mean + stddev * a draw of the distribution `unit`."""

  unit: str
  stddev: float
  mean: float = 0.0


_UNIT_DRAWS: dict[str, Callable[..., jax.Array]] = {
  'normal': jax.random.normal,
  'truncated_normal': lambda key, shape: jax.random.truncated_normal(
    key, -2.0, 2.0, shape
  ),
}
# The standard deviation of a unit normal truncated at -2 and 2.
_TRUNCATED_STDDEV = 0.87962566103423978


def _as_scaled(parameter: _Parameter) -> _Scaled | None:
  """Returns the distribution of a parameter; None if it is constant.

  Raises:
    ValueError: if no network here uses the initializer.
  """
  initializer = parameter.initializer
  if isinstance(initializer, hk.initializers.RandomNormal):
    return _Scaled('normal', initializer.stddev, initializer.mean)
  if isinstance(initializer, hk.initializers.TruncatedNormal):
    if (initializer.lower, initializer.upper) != (-2.0, 2.0):
      raise ValueError(
        f'{parameter.module}: truncated at {initializer.lower} and'
        f' {initializer.upper}, expected -2 and 2'
      )
    return _Scaled('truncated_normal', initializer.stddev, initializer.mean)
  if not isinstance(initializer, hk.initializers.VarianceScaling):
    return None
  unit, mode = initializer.distribution, initializer.mode
  if mode != 'fan_in' or unit not in _UNIT_DRAWS or initializer.fan_in_axes:
    raise ValueError(
      f'{parameter.module}: VarianceScaling is {vars(initializer)}, expected'
      f' fan_in and one of {", ".join(_UNIT_DRAWS)}'
    )
  stddev = math.sqrt(initializer.scale / math.prod(parameter.shape[:-1]))
  if unit == 'truncated_normal':
    stddev /= _TRUNCATED_STDDEV
  return _Scaled(unit, stddev)
