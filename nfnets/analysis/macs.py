"""Multiply-accumulates (MACs), counted in the traced program.

A MAC is one multiplication and one addition. The papers report MACs under the
name "FLOPs"; counted as floating-point operations, they would be twice as many.
"""

import math
from collections.abc import Callable, Iterator, Mapping

import jax
from jax.extend import core
from jax.interpreters import partial_eval

from nfnets.layers import convolution
from nfnets.models import registry


def count_macs(function: Callable[..., object], *args: object) -> int:
  """Counts the MACs of a function's convolutions and matrix products.

  Pooling and elementwise operations are not counted, nor operations whose
  results are not used. A convolution counts the
  same however it is lowered, with every position of its window, padding
  included; zeros that the gradient of a strided convolution puts between its
  inputs are left out on average. A loop counts once per iteration, a branch as
  its most expensive case. The body of a `while` loop counts once, because the
  program does not contain the number of iterations.

  Args:
    function: the function to trace; nothing is computed.
    *args: its arguments, pytrees of arrays or `jax.ShapeDtypeStruct`s.

  Returns:
    The number of MACs, exact without such gradients.
  """
  with convolution.lowering('plain'):
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    used, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _jaxpr_macs(used)


def model_macs(model: registry.Model, size: int) -> int:
  """Counts the MACs of a network's forward pass for one image.

  Args:
    model: a network from `models.create_model`.
    size: height and width of the image, pixels.

  Returns:
    The exact number of MACs; 10^9 of them are a GMAC.
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
  """Counts the MACs of one operation and of the programs that it calls."""
  primitive, params = equation.primitive.name, equation.params
  outputs = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
  if primitive == 'dot_general':
    contracted, _ = params['dimension_numbers'][0]
    left = equation.invars[0].aval.shape
    return outputs * math.prod(left[axis] for axis in contracted)
  if primitive == 'conv_general_dilated':
    kernel = equation.invars[1].aval.shape
    out_axis = params['dimension_numbers'].rhs_spec[0]
    # Zeros between the inputs, as in the gradient of strided convolutions.
    zeros = math.prod(params['lhs_dilation'])
    return outputs * math.prod(kernel) // kernel[out_axis] // zeros
  inner = [_jaxpr_macs(jaxpr) for jaxpr in inner_jaxprs(params)]
  if primitive == 'cond':
    return max(inner)
  return sum(inner) * (params['length'] if primitive == 'scan' else 1)


def inner_jaxprs(params: Mapping[str, object]) -> Iterator[core.Jaxpr]:
  """Yields the programs among the parameters of an operation of a jaxpr."""
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      if isinstance(item, core.ClosedJaxpr):
        yield item.jaxpr
      elif isinstance(item, core.Jaxpr):
        yield item
