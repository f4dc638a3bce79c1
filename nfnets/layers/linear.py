"""The linear layer."""

import haiku as hk
import jax
from jax import numpy as jnp

from nfnets.layers import broadcast


class Linear(hk.Linear):
  """`hk.Linear` with a bias whose gradient is summed in float32."""

  def __init__(
    self,
    output_size: int,
    w_init: hk.initializers.Initializer | None = None,
    name: str | None = None,
  ):
    """Creates the layer.

    Args:
      output_size: number of outputs.
      w_init: initializer of the weights; None for a normal distribution,
        truncated at two standard deviations, with variance 1 / fan_in.
      name: the Haiku module's name.
    """
    super().__init__(output_size, with_bias=False, w_init=w_init, name=name)

  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps float[B, C] to float[B, output_size]."""
    outputs = super().__call__(inputs)
    bias = hk.get_parameter('b', (self.output_size,), init=jnp.zeros)
    return broadcast.add_bias(outputs, bias)
