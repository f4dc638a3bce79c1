"""The normalizer-free bottleneck block of all NF families.

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
  broadcast,
  plain_conv,
  pooling,
  squeeze_excite,
  ws_conv,
)
from nfnets.models import scaling
from nfnets.models.config import ModelConfig

# (inputs float[B, H, W, C], activated inputs, is_training)
# -> shortcut float[B, H', W', O]
Shortcut = Callable[[jax.Array, jax.Array, bool], jax.Array]
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
  """Creates a convolution by the model's conventions.

  Args:
    config: the model's configuration.
    channels: number of output channels.
    kernel_size: height and width of the filters in pixels.
    name: the Haiku module's name.
    stride: step in pixels along both axes.
    groups: number of groups that channels are split into.
    gain_init: initial value of the gains; plain convolutions have none.
    with_bias: whether a plain convolution has a bias; a standardized one always
      has.

  Returns:
    A standardized convolution; a plain one if the model is folded or does not
    standardize its weights.
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
  config: ModelConfig,
  inputs: jax.Array,
  factor: jax.typing.ArrayLike = 1.0,
  *,
  last: bool = False,
) -> jax.Array:
  """Applies the model's activation, with its gamma unless the weights have it.

  Args:
    config: the model's configuration.
    inputs: float[B, H, W, C].
    factor: more constants >= 0 that multiply the result; they broadcast to the
      inputs and are not differentiated.
    last: whether no convolution follows. Such an activation keeps its gamma in
      a folded network, since there are no filters to fold it into.

  Returns:
    float[B, H, W, C]. Networks without standardization have no gammas.
  """
  activation = activations.get(config.activation)
  in_weights = config.gamma_in_weights or (config.folded and not last)
  if in_weights or not config.standardize:
    return activation.times(inputs, factor)
  return activation.times(inputs, activation.gamma * factor)


class NFBlock(hk.Module):
  """A pre-activation bottleneck block without normalization, figure 3.

  output = shortcut + alpha * skip_gain * residual. Parameters are drawn in the
  order in which `__call__` uses them: another order changes initial values.
  """

  def __init__(self, config: ModelConfig, plan: scaling.BlockPlan):
    """Creates the layers.

    Args:
      config: the model's configuration; `block_name` is the module's name.
      plan: the block's channels, groups, stride and beta.
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
    # RegNets have attention inside the bottleneck, other families at its end.
    self.inner_gates: Gates | None = None
    self.gates: Gates | None = None
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
      is_training: whether a gradient follows; changes no value.
      kept: float[B, 1, 1, 1], see `stochastic_depth.draw_kept`.

    Returns:
      The output float[B, H', W', out_channels] and, with the same shape, the
      residual branch before stochastic depth, skip gain and alpha.
    """
    beta = xla.opaque(jnp.asarray(self.plan.beta, inputs.dtype))
    # As in the released code, beta scales the output of the activation.
    activated = activate(self.config, inputs, beta)
    h = self.conv0(activated)
    h = self.conv1(activate(self.config, h))
    for conv in self.extra_convs:
      h = conv(activate(self.config, h))
    if self.inner_gates is not None:
      h = h * broadcast.broadcast_to(self.inner_gates(h), h.shape)
    gain = self._skip_gain(h.dtype) * self.config.alpha
    if self.gates is None:
      # Factors of the outputs would cost a pass over them, forward and back.
      branch = self.conv2(activate(self.config, h, kept), gain, kept)
      residual = self.conv2(activate(self.config, h))
    else:
      h = self.conv2(activate(self.config, h))
      gates = self.gates(h)
      factor = broadcast.broadcast_to(gain, gates.shape) * gates * kept
      branch = broadcast.broadcast_to(factor, h.shape) * h
      residual = h * gates
    shortcut = self.shortcut(inputs, activated, is_training)
    return shortcut + branch, residual

  def _skip_gain(self, dtype: jnp.dtype) -> jax.Array:
    """Returns the learned scalar of the residual branch, or 1 without one."""
    if not self.config.skip_gain:
      return jnp.ones((), dtype)
    init = hk.initializers.Constant(self.config.skip_gain_init)
    return hk.get_parameter('skip_gain', (), init=init)


def _make_shortcut(config: ModelConfig, plan: scaling.BlockPlan) -> Shortcut:
  """Creates the shortcut: a projection in transition blocks, else identity."""
  if plan.stride == 1 and plan.in_channels == plan.out_channels:
    return lambda inputs, activated, is_training: inputs
  pools = config.pool_shortcut and plan.stride > 1
  conv = make_conv(
    config,
    plan.out_channels,
    1,
    stride=1 if config.pool_shortcut else plan.stride,
    name='conv_shortcut',
  )

  def shortcut(
    inputs: jax.Array, activated: jax.Array, is_training: bool
  ) -> jax.Array:
    del inputs
    outputs = conv(pooling.average_pool(activated) if pools else activated)
    # Otherwise XLA sums the cotangent once more for the bias.
    return xla.materialize(outputs) if is_training else outputs

  return shortcut


def _make_gates(config: ModelConfig, channels: int) -> Gates | None:
  """Creates the attention with its gain; None if the model has none."""
  attention = make_attention(config, channels)
  if attention is None:
    return None
  return lambda h: squeeze_excite.ATTENTION_GAIN * attention(h)


def make_attention(config: ModelConfig, channels: int) -> hk.Module | None:
  """Creates the block's channel attention; None if the model has none.

  Args:
    config: the model's configuration.
    channels: number of input channels.
  """
  if config.eca:
    return squeeze_excite.EfficientChannelAttention(name='eca')
  if config.se_ratio:
    hidden = scaling.hidden_channels(
      channels, config.se_ratio, config.se_divisor
    )
    return squeeze_excite.SqueezeExcite(channels, hidden)
  return None
