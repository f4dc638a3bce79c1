"""Multiply-accumulates, counted in the traced program."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core

from nfnets.layers import convolution
from nfnets.models import registry


def count_macs(function: Callable[..., Any], *args: Any) -> int:
  """Multiply-accumulates of a function's convolutions and matrix products.

  The papers' "FLOPs" are these; pooling and elementwise work are left out.
  Convolutions are counted as one each however they are lowered, with every
  position of their window, padding included. A loop counts as often as it
  runs, a branch as its costliest case; the body of a `while` counts once,
  since its length is not in the program.

  Args:
    function: what is traced; nothing is computed.
    *args: its arguments, arrays or `jax.ShapeDtypeStruct`s.

  Returns:
    The exact number.
  """
  with convolution.lowering('plain'):
    return _jaxpr_macs(jax.make_jaxpr(function)(*args).jaxpr)


def model_macs(model: registry.Model, size: int) -> int:
  """Multiply-accumulates of one image's logits.

  Args:
    model: any of `models.create_model`.
    size: height and width of the image in pixels.

  Returns:
    The exact number; 10^9 of them are a GMAC.
  """
  images = jax.ShapeDtypeStruct((1, size, size, 3), 'float32')
  params, state = jax.eval_shape(model.init, jax.random.key(0), images)

  def logits(
    params: registry.Params, state: registry.State, images: jax.Array
  ) -> jax.Array:
    return model.apply(params, state, None, images, False)[0][0]

  return count_macs(logits, params, state, images)


def _jaxpr_macs(jaxpr: core.Jaxpr) -> int:
  return sum(_equation_macs(equation) for equation in jaxpr.eqns)


def _equation_macs(equation: core.JaxprEqn) -> int:
  """Of one operation and of the programs that it calls."""
  primitive, params = equation.primitive.name, equation.params
  outputs = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
  if primitive == 'dot_general':
    contracted, _ = params['dimension_numbers'][0]
    left = equation.invars[0].aval.shape
    return outputs * math.prod(left[axis] for axis in contracted)
  if primitive == 'conv_general_dilated':
    kernel = equation.invars[1].aval.shape
    out_axis = params['dimension_numbers'].rhs_spec[0]
    return outputs * math.prod(kernel) // kernel[out_axis]
  inner = [_jaxpr_macs(jaxpr) for jaxpr in _inner_jaxprs(params)]
  if primitive == 'cond':
    return max(inner)
  return sum(inner) * (params['length'] if primitive == 'scan' else 1)


def _inner_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
  """The programs among an operation's parameters."""
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      if isinstance(item, core.ClosedJaxpr):
        yield item.jaxpr
      elif isinstance(item, core.Jaxpr):
        yield item
