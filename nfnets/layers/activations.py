"""Activations scaled to preserve the variance of a unit Gaussian.

A scaled activation is `gamma * f(x)` with gamma = 1 / std(f(x)) for
x ~ N(0, 1).

References:
  Brock et al, `Characterizing signal propagation to close the performance gap
  in unnormalized ResNets <https://arxiv.org/abs/2101.08692>`_, 2021, section 4.
"""

import functools
import types
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
from jax import nn
from jax import numpy as jnp

from nfnets import errors

Function = Callable[[jax.Array], jax.Array]


class Activation(NamedTuple):
  """An elementwise function and the gain that restores unit variance."""

  function: Function
  gamma: float

  def scaled(self, inputs: jax.Array) -> jax.Array:
    """Returns gamma * function(inputs), same shape and dtype as the inputs."""
    return self.function(inputs) * self.gamma


_gelu_tanh = functools.partial(nn.gelu, approximate=True)
_gelu_erf = functools.partial(nn.gelu, approximate=False)

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
    'relu': Activation(nn.relu, 1.7139588594436646),
    'relu6': Activation(nn.relu6, 1.7131484746932983),
    'selu': Activation(nn.selu, 1.0008515119552612),
    'sigmoid': Activation(nn.sigmoid, 4.803835391998291),
    'silu': Activation(nn.silu, 1.7881293296813965),
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
