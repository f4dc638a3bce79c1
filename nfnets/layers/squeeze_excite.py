"""Channel attention: squeeze-and-excitation and efficient channel attention."""

import math

import haiku as hk
import jax
from jax import nn
from jax import numpy as jnp

ATTENTION_GAIN = 2.0
"""Multiplies the gates of normalizer-free networks, whose mean is near 1/2."""


class SqueezeExcite(hk.Module):
  """Gates in (0, 1) per image and channel from the global mean.

  The inner activation is a plain ReLU whatever the network's is: the paper
  says GELU, the released code and weights have ReLU.

  References:
    Hu et al, `Squeeze-and-Excitation Networks
    <https://arxiv.org/abs/1709.01507>`_, 2018, section 3.
  """

  def __init__(self, channels: int, hidden: int, name: str | None = None):
    """Makes the layer.

    Args:
      channels: of the input.
      hidden: width between the two linear layers.
      name: of the Haiku module.
    """
    super().__init__(name=name)
    self.reduce = hk.Linear(hidden, name='linear')
    self.expand = hk.Linear(channels, name='linear_1')

  def __call__(self, inputs: jax.Array) -> jax.Array:
    """float[B, H, W, C] to gates float[B, 1, 1, C]."""
    hidden = nn.relu(self.reduce(jnp.mean(inputs, axis=(1, 2))))
    return nn.sigmoid(self.expand(hidden))[:, None, None, :]


def eca_kernel_size(channels: int) -> int:
  """Width of the one-dimensional filter: odd, near (log2(channels) + 1) / 2.

  Args:
    channels: of the input.

  Returns:
    An odd number, at least 3.
  """
  size = int((math.log2(channels) + 1) / 2)
  return max(size + 1 - size % 2, 3)


class EfficientChannelAttention(hk.Module):
  """Gates in (0, 1) from a filter that runs along the channels.

  Parameter: `w` float[k, 1, 1], shared by all channels, no bias; the channels
  are padded with zeros.

  References:
    Wang et al, `ECA-Net <https://arxiv.org/abs/1910.03151>`_, 2020, section 3.
  """

  def __call__(self, inputs: jax.Array) -> jax.Array:
    """float[B, H, W, C] to gates float[B, 1, 1, C]."""
    size = eca_kernel_size(inputs.shape[-1])
    weight = hk.get_parameter(
      'w',
      (size, 1, 1),
      init=hk.initializers.TruncatedNormal(1 / math.sqrt(size)),
    )
    side = size // 2
    channels = inputs.shape[-1]
    means = jnp.pad(jnp.mean(inputs, axis=(1, 2)), ((0, 0), (side, side)))
    # A product: a convolution of one channel takes XLA on CPUs a millisecond.
    shifted = jnp.stack([means[:, i : i + channels] for i in range(size)])
    mixed = jnp.einsum('kbc,k->bc', shifted, weight[:, 0, 0])
    return nn.sigmoid(mixed)[:, None, None, :]
