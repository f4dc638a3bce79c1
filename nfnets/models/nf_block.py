"""The normalizer-free bottleneck block, shared by every NF family.

References:
  Brock et al, `High-Performance Large-Scale Image Recognition Without
  Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, section 4, figure 3.
"""

from collections.abc import Callable

import haiku as hk
import jax
from jax import numpy as jnp

from nfnets import xla
from nfnets.layers import (
  activations,
  plain_conv,
  pooling,
  squeeze_excite,
  ws_conv,
)
from nfnets.models import scaling
from nfnets.models.config import ModelConfig

# float[B, H, W, C] -> float[B, 1, 1, C or 1]
Gates = Callable[[jax.Array], jax.Array]


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


class NFBlock(hk.Module):
  """A pre-activation bottleneck block without normalization, figure 3.

  out = shortcut + alpha * skip_gain * residual. The order of the steps in
  `__call__` is also the order in which parameters are drawn.
  """

  def __init__(self, config: ModelConfig, plan: scaling.BlockPlan):
    """Creates the layers.

    Args:
      config: of the model; its `block_name` names the module.
      plan: of the block.
    """
    super().__init__(name=config.block_name)
    self.config, self.plan = config, plan
    width, groups = plan.bottleneck, plan.groups
    self.conv0 = make_conv(config, width, 1, name='conv0')
    self.conv1 = make_conv(
      config, width, 3, stride=plan.stride, groups=groups, name='conv1'
    )
    self.extra_convs = [
      make_conv(config, width, 3, groups=groups, name=name)
      for name in (('conv1b',) if config.extra_conv else ())
    ]
    self.conv2 = make_conv(
      config,
      plan.out_channels,
      1,
      gain_init=1.0 if config.skip_gain else config.skip_gain_init,
      name='conv2',
    )
    self.shortcut = _make_shortcut(config, plan)
    # RegNets attend inside the bottleneck, the others to its output.
    self.inner_gates: Gates = _open_gates
    self.gates: Gates = _open_gates
    if config.inverted:
      self.inner_gates = _make_gates(config, width)
    else:
      self.gates = _make_gates(config, plan.out_channels)

  def __call__(
    self,
    inputs: jax.Array,
    is_training: bool,
    kept: jax.typing.ArrayLike = 1.0,
  ) -> tuple[jax.Array, jax.Array]:
    """Applies the block.

    Args:
      inputs: float[B, H, W, in_channels].
      is_training: ignored; blocks with batch normalization need it.
      kept: float[B, 1, 1, 1], see `stochastic_depth.draw_kept`.

    Returns:
      The output float[B, H', W', out_channels] and, of the same shape, the
      residual branch before stochastic depth, skip gain and alpha.
    """
    del is_training
    beta = xla.opaque(jnp.asarray(self.plan.beta, inputs.dtype))
    # Activated first, then scaled: the order of the released weights.
    activated = activate(self.config, inputs) * beta
    h = self.conv0(activated)
    h = self.conv1(activate(self.config, h))
    for conv in self.extra_convs:
      h = conv(activate(self.config, h))
    h = h * self.inner_gates(h)
    h = self.conv2(activate(self.config, h))
    gates = self.gates(h)
    # One small factor, so that neither the branch nor the gradients of gain and
    # gates take a pass over the large array for each part of it.
    factor = self.config.alpha * self._skip_gain() * gates * kept
    return self.shortcut(inputs, activated) + factor * h, h * gates

  def _skip_gain(self) -> jax.typing.ArrayLike:
    if not self.config.skip_gain:
      return 1.0
    init = hk.initializers.Constant(self.config.skip_gain_init)
    return hk.get_parameter('skip_gain', (), init=init)


def _make_shortcut(
  config: ModelConfig, plan: scaling.BlockPlan
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """(inputs, activated) -> shortcut: a projection in transition blocks."""
  if plan.stride == 1 and plan.in_channels == plan.out_channels:
    return lambda inputs, activated: inputs
  pools = config.pool_shortcut and plan.stride > 1
  conv = make_conv(
    config,
    plan.out_channels,
    1,
    stride=1 if config.pool_shortcut else plan.stride,
    name='conv_shortcut',
  )
  return lambda inputs, activated: conv(
    pooling.average_pool(activated) if pools else activated
  )


def _make_gates(config: ModelConfig, channels: int) -> Gates:
  """float[B, H, W, C] -> gates float[B, 1, 1, C or 1] that keep the scale."""
  attention = make_attention(config, channels)
  if attention is None:
    return _open_gates
  return lambda h: squeeze_excite.ATTENTION_GAIN * attention(h)


def _open_gates(h: jax.Array) -> jax.Array:
  return jnp.ones((h.shape[0], 1, 1, 1), h.dtype)


def make_attention(config: ModelConfig, channels: int) -> hk.Module | None:
  """Makes the block's channel attention, or None if the model has none."""
  if config.eca:
    return squeeze_excite.EfficientChannelAttention(name='eca')
  if config.se_ratio:
    hidden = scaling.hidden_channels(
      channels, config.se_ratio, config.se_divisor
    )
    return squeeze_excite.SqueezeExcite(channels, hidden)
  return None
