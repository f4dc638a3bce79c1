"""Convolution with a bias, as folded networks have it."""

import haiku as hk
import jax
from jax import numpy as jnp

from nfnets.layers import convolution, ws_conv


class PlainConv2D(hk.Module):
  """A convolution with a bias.

  Parameters: `w` float[k, k, C // groups, O] ~ N(0, 1 / fan_in), `bias`
  float[O] = 0: those of `ws_conv.WSConv2D` without the gain.
  """

  def __init__(
    self,
    output_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    padding: ws_conv.PaddingRule = 'same',
    name: str | None = None,
  ):
    """Makes the layer; the arguments are those of `ws_conv.WSConv2D`."""
    super().__init__(name=name)
    self.output_channels = output_channels
    self.kernel_size = kernel_size
    self.stride = stride
    self.groups = groups
    self.padding = ws_conv.explicit_padding(padding, kernel_size)

  def __call__(self, inputs: jax.Array) -> jax.Array:
    """float[B, H, W, C] to float[B, H', W', output_channels]."""
    size, channels = self.kernel_size, inputs.shape[-1] // self.groups
    weight = hk.get_parameter(
      'w',
      (size, size, channels, self.output_channels),
      init=hk.initializers.VarianceScaling(1.0, 'fan_in', 'normal'),
    )
    bias = hk.get_parameter('bias', (self.output_channels,), init=jnp.zeros)
    outputs = convolution.conv2d(
      inputs,
      weight,
      stride=self.stride,
      padding=self.padding,
      groups=self.groups,
    )
    return outputs + bias.reshape(1, 1, 1, -1)
