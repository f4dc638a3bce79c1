"""Convolution without standardization, for folded networks and baselines."""

import haiku as hk
import jax
from jax import numpy as jnp

from nfnets.layers import broadcast, convolution, ws_conv


class PlainConv2D(hk.Module):
  """A convolution, by default with a bias.

  Parameters: `w` float[k, k, C // groups, O] and `bias` float[O] = 0, as in
  `ws_conv.WSConv2D`, but no gain.
  """

  def __init__(
    self,
    output_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    padding: ws_conv.PaddingRule = 'same',
    bias_name: str | None = 'bias',
    w_init: hk.initializers.Initializer | None = None,
    name: str | None = None,
  ):
    """Creates the layer.

    Args:
      output_channels: number of filters.
      kernel_size: height and width of the filters in pixels.
      stride: step in pixels along both axes.
      groups: number of groups that channels are split into.
      padding: see `ws_conv.explicit_padding`.
      bias_name: the bias parameter's name; None for a convolution without
        bias.
      w_init: initializer of the filters; None for a normal distribution,
        truncated at two standard deviations, with variance 1 / fan_in.
      name: the Haiku module's name.
    """
    super().__init__(name=name)
    self.output_channels = output_channels
    self.kernel_size = kernel_size
    self.stride = stride
    self.groups = groups
    self.bias_name = bias_name
    self.w_init = w_init or hk.initializers.VarianceScaling(1.0, 'fan_in')
    self.padding = ws_conv.explicit_padding(padding, kernel_size)

  def __call__(
    self,
    inputs: jax.Array,
    factor: jax.Array | None = None,
    kept: jax.typing.ArrayLike = 1.0,
  ) -> jax.Array:
    """Applies the convolution, see `ws_conv.WSConv2D.__call__`."""
    size, channels = self.kernel_size, inputs.shape[-1] // self.groups
    weight = hk.get_parameter(
      'w',
      (size, size, channels, self.output_channels),
      init=self.w_init,
    )
    if factor is not None:
      weight = weight * broadcast.broadcast_to(factor, weight.shape)
    outputs = convolution.conv2d(
      inputs,
      weight,
      stride=self.stride,
      padding=self.padding,
      groups=self.groups,
    )
    if self.bias_name is None:
      return outputs
    bias = hk.get_parameter(
      self.bias_name, (self.output_channels,), init=jnp.zeros
    )
    if factor is not None:
      bias = bias * broadcast.broadcast_to(factor, bias.shape)
    return broadcast.add_bias(outputs, bias, kept)
