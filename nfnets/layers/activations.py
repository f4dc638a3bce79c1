"""Activations scaled to preserve the variance of a unit Gaussian.

A scaled activation is `gamma * f(x)` with gamma = 1 / std(f(x)) for
x ~ N(0, 1).

References:
  Brock et al, `Characterizing signal propagation to close the performance gap
  in unnormalized ResNets <https://arxiv.org/abs/2101.08692>`_, 2021, section 4.
"""

import functools
import math
import types
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
from jax import ad_checkpoint, lax, nn
from jax import numpy as jnp

from nfnets import errors

Function = Callable[[jax.Array], jax.Array]


class Activation(NamedTuple):
  """An elementwise function and the gain that restores unit variance."""

  function: Function
  gamma: float

  def times(self, inputs: jax.Array, scale: jax.typing.ArrayLike) -> jax.Array:
    """Returns scale * function(inputs), same shape and dtype as the inputs.

    Args:
      inputs: float[...].
      scale: constants >= 0 that broadcast to the inputs; not differentiated.
    """
    scale = lax.stop_gradient(jnp.asarray(scale, inputs.dtype))
    if self.function is relu:
      return _scaled_relu(inputs, scale)
    return self.function(inputs) * scale

  def scaled(self, inputs: jax.Array) -> jax.Array:
    """Returns gamma * function(inputs), same shape and dtype as the inputs."""
    return self.times(inputs, self.gamma)


def relu(inputs: jax.Array) -> jax.Array:
  """Returns max(inputs, 0)."""
  return _scaled_relu(inputs, jnp.ones((), inputs.dtype))


@jax.custom_jvp
def _relu_times(inputs: jax.Array, scale: jax.Array) -> jax.Array:
  return nn.relu(inputs) * scale


@_relu_times.defjvp
def _relu_times_jvp(
  primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  outputs = ad_checkpoint.checkpoint_name(_relu_times(*primals), 'relu')
  tangent = tangents[0] * primals[1]
  return outputs, jnp.where(outputs > 0, tangent, jnp.zeros_like(tangent))


# The gradient keeps nothing but the output, by the sign of which it is known.
# The next convolution keeps the same array for its own gradient.
_scaled_relu = jax.checkpoint(
  _relu_times,
  prevent_cse=False,
  policy=jax.checkpoint_policies.save_only_these_names('relu'),
)


def _keep_input(function: Function, derivative: Function) -> Function:
  """Returns a function whose gradient keeps nothing but its input.

  XLA computes an expression once that appears both in the function and in its
  derivative, and may keep the result, an array as large as the input, for the
  backward pass. On CPUs and GPUs memory traffic costs more than arithmetic, so
  `derivative` must be written with other operations than `function`. On TPUs
  arithmetic costs more, so the function's own derivative is taken, and XLA
  decides.

  Args:
    function: an elementwise function.
    derivative: its derivative.

  Returns:
    `function`, computed in float32 for bfloat16 inputs, as is the derivative.
  """

  def own_derivative(inputs: jax.Array) -> jax.Array:
    return jax.jvp(function, (inputs,), (jnp.ones_like(inputs),))[1]

  @jax.custom_jvp
  def apply(inputs: jax.Array) -> jax.Array:
    return function(_wide(inputs)).astype(inputs.dtype)

  @apply.defjvp
  def _(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    (inputs,), (tangent,) = primals, tangents
    slope = lax.platform_dependent(
      _wide(inputs), tpu=own_derivative, default=derivative
    )
    return apply(inputs), (_wide(tangent) * slope).astype(inputs.dtype)

  return jax.checkpoint(apply, prevent_cse=False)


def _wide(inputs: jax.Array) -> jax.Array:
  """Returns the inputs in at least float32."""
  return inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))


def _gelu_tanh_derivative(x: jax.Array) -> jax.Array:
  """With x s(2u) for x (1 + tanh(u)) / 2, where s is the logistic function."""
  double_u = math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)
  slope = math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * x**2)
  s = nn.sigmoid(double_u)
  return s + x * s * (1 - s) * slope


def _gelu_erf_derivative(x: jax.Array) -> jax.Array:
  """With the error function, where `nn.gelu` has its complement."""
  density = jnp.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
  return (1 + lax.erf(x * math.sqrt(0.5))) / 2 + x * density


def _silu_derivative(x: jax.Array) -> jax.Array:
  """With the hyperbolic tangent, where `nn.silu` has the logistic function."""
  s = (1 + jnp.tanh(x / 2)) / 2
  return s * (1 + x * (1 - s))


_silu = _keep_input(nn.silu, _silu_derivative)
_gelu_tanh = _keep_input(
  functools.partial(nn.gelu, approximate=True), _gelu_tanh_derivative
)
_gelu_erf = _keep_input(
  functools.partial(nn.gelu, approximate=False), _gelu_erf_derivative
)

# The published gammas, with which the released weights were trained. They are
# sampled estimates, within 1.2e-3 of the exact values. glu and log_softmax are
# left out because they are not elementwise: they halve or mix channels.
ACTIVATIONS: Mapping[str, Activation] = types.MappingProxyType(
  {
    'celu': Activation(nn.celu, 1.270926833152771),
    'elu': Activation(nn.elu, 1.2716004848480225),
    # The published networks use the tanh form, timm's networks the exact one.
    'gelu': Activation(_gelu_tanh, 1.7015043497085571),
    'gelu_erf': Activation(_gelu_erf, 1.7015043497085571),
    'identity': Activation(lambda x: x, 1.0),
    'leaky_relu': Activation(nn.leaky_relu, 1.70590341091156),
    'log_sigmoid': Activation(nn.log_sigmoid, 1.9193484783172607),
    'relu': Activation(relu, 1.7139588594436646),
    'relu6': Activation(nn.relu6, 1.7131484746932983),
    'selu': Activation(nn.selu, 1.0008515119552612),
    'sigmoid': Activation(nn.sigmoid, 4.803835391998291),
    'silu': Activation(_silu, 1.7881293296813965),
    'soft_sign': Activation(nn.soft_sign, 2.338853120803833),
    'softplus': Activation(nn.softplus, 1.9203323125839233),
    'tanh': Activation(jnp.tanh, 1.5939117670059204),
  }
)


def get(name: str) -> Activation:
  """Returns an activation by name.

  Args:
    name: a key of `ACTIVATIONS`.

  Returns:
    The function and its gamma.

  Raises:
    UserError: if the name is unknown.
  """
  if name not in ACTIVATIONS:
    raise errors.UserError(
      f'activation is {name!r}, expected one of '
      f'{", ".join(sorted(ACTIVATIONS))}'
    )
  return ACTIVATIONS[name]
