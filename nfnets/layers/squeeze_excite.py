"""Channel attention: squeeze-and-excitation and efficient channel attention."""

import math

import haiku as hk
import jax
from jax import nn
from jax import numpy as jnp

from nfnets.layers import linear

ATTENTION_GAIN = 2.0
"""Factor of the gates in normalizer-free networks: their mean is near 1/2."""


class SqueezeExcite(hk.Module):
  """Computes gates in (0, 1) per image and channel from the global mean.

  The inner activation is always a plain ReLU, as in the released code and
  weights; the NFNet paper describes a GELU.

  References:
    Hu et al, `Squeeze-and-Excitation Networks
    <https://arxiv.org/abs/1709.01507>`_, 2018, section 3.
  """

  def __init__(self, channels: int, hidden: int, name: str | None = None):
    """Creates the layer.

    Args:
      channels: number of input channels.
      hidden: width between the two linear layers.
      name: the Haiku module's name.
    """
    super().__init__(name=name)
    self.reduce = linear.Linear(hidden, name='linear')
    self.expand = linear.Linear(channels, name='linear_1')

  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps float[B, H, W, C] to gates float[B, 1, 1, C]."""
    hidden = nn.relu(self.reduce(jnp.mean(inputs, axis=(1, 2))))
    return nn.sigmoid(self.expand(hidden))[:, None, None, :]


def eca_kernel_size(channels: int) -> int:
  """Returns the width of the filter along the channels.

  Args:
    channels: number of input channels.

  Returns:
    An odd number near (log2(channels) + 1) / 2, at least 3.
  """
  size = int((math.log2(channels) + 1) / 2)
  return max(size + 1 - size % 2, 3)


class EfficientChannelAttention(hk.Module):
  """Computes gates in (0, 1) with a filter that moves along the channels.

  Parameter: `w` float[k, 1, 1], shared by all channels; no bias. The channels
  are padded with zeros.

  References:
    Wang et al, `ECA-Net: Efficient Channel Attention for Deep Convolutional
    Neural Networks <https://arxiv.org/abs/1910.03151>`_, 2020, section 3.
  """

  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps float[B, H, W, C] to gates float[B, 1, 1, C]."""
    size = eca_kernel_size(inputs.shape[-1])
    weight = hk.get_parameter(
      'w',
      (size, 1, 1),
      init=hk.initializers.TruncatedNormal(1 / math.sqrt(size)),
    )
    side = size // 2
    channels = inputs.shape[-1]
    means = jnp.pad(jnp.mean(inputs, axis=(1, 2)), ((0, 0), (side, side)))
    # Not a convolution: with a single channel it takes a millisecond on CPUs.
    shifted = jnp.stack([means[:, i : i + channels] for i in range(size)])
    mixed = jnp.einsum('kbc,k->bc', shifted, weight[:, 0, 0])
    return nn.sigmoid(mixed)[:, None, None, :]
