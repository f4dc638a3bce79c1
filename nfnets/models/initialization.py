"""Initial parameters without one compiled program per tensor.

Haiku draws each parameter where the network first asks for it: hundreds of
generators to compile, and the whole network runs (or is compiled) on the way.
Here the network is only traced, to learn which parameters it has, and all of
them are slices of one draw, in the order of their creation.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
from jax import numpy as jnp

from nfnets import xla

Tree = dict[str, dict[str, jax.Array]]


class _Parameter(NamedTuple):
  """What the network asks for, once for each parameter."""

  module: str
  name: str
  shape: tuple[int, ...]
  dtype: Any
  initializer: Callable[..., jax.Array]


def make_init(
  forward: Callable[..., Any],
) -> Callable[[jax.Array, jax.Array], tuple[Tree, Tree]]:
  """Makes a network's `init`.

  Args:
    forward: of Haiku modules, (images, is_training) -> anything.

  Returns:
    (key, images) -> (params, state). The same key gives the same parameters;
    the images' values do not matter. It can be traced.
  """

  @jax.jit
  def init(key: jax.Array, images: jax.Array) -> tuple[Tree, Tree]:
    parameters: list[_Parameter] = []

    def create(
      _: Any, shape: Any, dtype: Any, initializer: Any, context: Any
    ) -> jax.Array:
      module, name = context.full_name.rsplit('/', 1)
      parameters.append(
        _Parameter(module, name, tuple(shape), dtype, initializer)
      )
      return jnp.zeros(shape, dtype)

    def recorded(images: jax.Array) -> Any:
      with hk.custom_creator(create):
        return forward(images, True)

    # Nothing uses what the network computes here, so that it is not compiled.
    _, state = hk.transform_with_state(recorded).init(key, images)
    return _draw_all(key, parameters), state

  return init


def _draw_all(key: jax.Array, parameters: list[_Parameter]) -> Tree:
  """The parameters: slices of one draw for each distribution, scaled."""
  sizes: dict[str, int] = dict.fromkeys(_UNIT_DRAWS, 0)
  for parameter in parameters:
    if scaled := _as_scaled(parameter):
      sizes[scaled.unit] += math.prod(parameter.shape)
  units = {
    unit: _UNIT_DRAWS[unit](jax.random.fold_in(key, i), (size,))
    for i, (unit, size) in enumerate(sizes.items())
  }
  units = xla.materialize(units)
  params: Tree = {}
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
# Of a unit normal cut off at -2 and 2.
_TRUNCATED_STDDEV = 0.87962566103423978


def _as_scaled(parameter: _Parameter) -> _Scaled | None:
  """How a parameter is drawn; None if its value is constant.

  Raises:
    ValueError: the initializer is not one that networks here use.
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
    raise ValueError(f'{parameter.module}: VarianceScaling {vars(initializer)}')
  stddev = math.sqrt(initializer.scale / math.prod(parameter.shape[:-1]))
  if unit == 'truncated_normal':
    stddev /= _TRUNCATED_STDDEV
  return _Scaled(unit, stddev)
