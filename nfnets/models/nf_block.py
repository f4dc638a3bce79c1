"""The normalizer-free bottleneck block, shared by every NF family.

References:
  Brock et al, `High-Performance Large-Scale Image Recognition Without
  Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, section 4, figure 3.
"""

import haiku as hk
import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from nfnets.layers import (
  activations,
  plain_conv,
  squeeze_excite,
  ws_conv,
)
from nfnets.models import scaling
from nfnets.models.config import ModelConfig


def make_conv(
  config: ModelConfig,
  channels: int,
  kernel_size: int,
  *,
  name: str,
  stride: int = 1,
  groups: int = 1,
  gain_init: float = 1.0,
  with_bias: bool = True,
) -> hk.Module:
  """A convolution by the conventions of the model.

  Args:
    config: of the model.
    channels: of the output.
    kernel_size: height and width of the filters in pixels.
    name: of the Haiku module.
    stride: step in pixels along both axes.
    groups: number of groups that channels are split into.
    gain_init: initial value of the gains; a plain convolution has none.
    with_bias: whether a plain convolution has a bias; others always have.

  Returns:
    A standardized convolution, or a plain one where the model's are folded or
    not standardized.
  """
  if config.folded or not config.standardize:
    bias = 'bias' if config.standardize else 'b'
    return plain_conv.PlainConv2D(
      channels,
      kernel_size,
      padding=config.padding,
      stride=stride,
      groups=groups,
      bias_name=bias if with_bias else None,
      name=name,
    )
  gamma = activations.get(config.activation).gamma
  return ws_conv.WSConv2D(
    channels,
    kernel_size,
    padding=config.padding,
    epsilon=config.ws_epsilon,
    gain_init=gain_init,
    scale=gamma if config.gamma_in_weights else 1.0,
    stride=stride,
    groups=groups,
    name=name,
  )


def activate(
  config: ModelConfig, inputs: jax.Array, *, last: bool = False
) -> jax.Array:
  """The model's activation, with its gain unless the weights carry it.

  No filter follows the last activation that could carry it when folded.
  Networks without standardization have no gains.
  """
  activation = activations.get(config.activation)
  in_weights = config.gamma_in_weights or (config.folded and not last)
  if in_weights or not config.standardize:
    return activation.function(inputs)
  return activation.scaled(inputs)


def average_pool(inputs: jax.Array) -> jax.Array:
  """2x2 means at stride 2, float[B, H, W, C] to [B, ceil(H/2), ceil(W/2), C].

  The last row and column of an odd size are means of what there is.
  """
  window = (1, 2, 2, 1)
  total = lax.reduce_window(inputs, 0.0, lax.add, window, window, 'SAME')
  rows, columns = (
    np.minimum(2, size - np.arange(0, size, 2)) for size in inputs.shape[1:3]
  )
  count = np.outer(rows, columns)[None, :, :, None]
  return total / count.astype(inputs.dtype)


def max_pool(inputs: jax.Array, padding: ws_conv.PaddingRule) -> jax.Array:
  """3x3 maxima at stride 2, float[B, H, W, C] to [B, ceil(H/2), ...]."""
  pad = ws_conv.explicit_padding(padding, 3)
  return lax.reduce_window(
    inputs,
    -np.inf,
    lax.max,
    (1, 3, 3, 1),
    (1, 2, 2, 1),
    pad if isinstance(pad, str) else ((0, 0), *pad, (0, 0)),
  )


class NFBlock(hk.Module):
  """A pre-activation bottleneck block without normalization.

  out = shortcut + alpha * skip_gain * residual, figure 3 of the paper.
  """

  def __init__(self, config: ModelConfig, plan: scaling.BlockPlan):
    """Makes the block.

    Args:
      config: of the model; it names the module.
      plan: of the block.
    """
    super().__init__(name=config.block_name)
    self.config, self.plan = config, plan
    width, groups = plan.bottleneck, plan.groups
    self.conv0 = make_conv(config, width, 1, name='conv0')
    self.conv1 = make_conv(
      config, width, 3, stride=plan.stride, groups=groups, name='conv1'
    )
    self.conv1b = None
    if config.extra_conv:
      self.conv1b = make_conv(config, width, 3, groups=groups, name='conv1b')
    self.conv2 = make_conv(
      config,
      plan.out_channels,
      1,
      gain_init=1.0 if config.skip_gain else config.skip_gain_init,
      name='conv2',
    )
    self.conv_shortcut = None
    if plan.stride > 1 or plan.in_channels != plan.out_channels:
      self.conv_shortcut = make_conv(
        config,
        plan.out_channels,
        1,
        stride=1 if config.pool_shortcut else plan.stride,
        name='conv_shortcut',
      )
    self.attention = make_attention(
      config, width if config.inverted else plan.out_channels
    )

  def _shortcut(self, inputs: jax.Array, activated: jax.Array) -> jax.Array:
    """The input itself or, in a transition, a projection of its activation."""
    if self.conv_shortcut is None:
      return inputs
    if self.plan.stride > 1 and self.config.pool_shortcut:
      activated = average_pool(activated)
    return self.conv_shortcut(activated)

  def _branch(self, activated: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """The branch's convolutions, and the factor that its attention asks for."""
    config = self.config
    h = self.conv0(activated)
    h = self.conv1(activate(config, h))
    if self.conv1b is not None:
      h = self.conv1b(activate(config, h))
    # The gates' mean is near 1/2: doubled, they keep the signal's scale.
    if self.attention is not None and config.inverted:
      h = h * (2.0 * self.attention(h))
    h = self.conv2(activate(config, h))
    if self.attention is None or config.inverted:
      return h, None
    return h, 2.0 * self.attention(h)

  def __call__(
    self,
    inputs: jax.Array,
    is_training: bool,
    kept: jax.Array | None = None,
  ) -> tuple[jax.Array, jax.Array]:
    """Applies the block.

    Args:
      inputs: float[B, H, W, in_channels].
      is_training: makes no difference here.
      kept: float[B, 1, 1, 1], see `stochastic_depth.draw_kept`; None keeps the
        branches of all images.

    Returns:
      The output float[B, H', W', out_channels] and, of the same shape, the
      residual branch before stochastic depth, skip gain and alpha.
    """
    del is_training
    # Behind a barrier the factor is no constant: XLA then compiles what it is
    # part of once for all blocks of a shape.
    beta = lax.optimization_barrier(jnp.asarray(self.plan.beta, inputs.dtype))
    # Activated first, then scaled: the order of the released weights.
    activated = activate(self.config, inputs) * beta
    h, gates = self._branch(activated)
    residual = h if gates is None else h * gates
    # One small factor: neither the branch nor the gradients of gain and gates
    # then take a pass over the large array for each part of it.
    factor = self.config.alpha
    if self.config.skip_gain:
      init = hk.initializers.Constant(self.config.skip_gain_init)
      factor = factor * hk.get_parameter('skip_gain', (), init=init)
    if gates is None:
      gates = jnp.ones((h.shape[0], 1, 1, 1), h.dtype)
    factor = factor * gates
    if kept is not None:
      factor = factor * kept
    return self._shortcut(inputs, activated) + factor * h, residual


def make_attention(config: ModelConfig, channels: int) -> hk.Module | None:
  """The block's channel attention, if it has any."""
  if config.eca:
    return squeeze_excite.EfficientChannelAttention(name='eca')
  if config.se_ratio:
    hidden = scaling.hidden_channels(
      channels, config.se_ratio, config.se_divisor
    )
    return squeeze_excite.SqueezeExcite(channels, hidden)
  return None
