"""Baselines: ResNets with batch normalization and with Fixup.

References:
  He et al, `Deep Residual Learning for Image Recognition
  <https://arxiv.org/abs/1512.03385>`_, 2016 (v1).
  He et al, `Identity Mappings in Deep Residual Networks
  <https://arxiv.org/abs/1603.05027>`_, 2016 (v2).
  Zhang et al, `Fixup Initialization: Residual Learning Without Normalization
  <https://arxiv.org/abs/1901.09321>`_, 2019, section 4 and figure 1.
"""

import dataclasses
import math

import haiku as hk
import jax
from jax import numpy as jnp

from nfnets.layers import activations, broadcast, plain_conv
from nfnets.models import nf_block, nf_resnet, scaling, trunk
from nfnets.models.config import ModelConfig


class BatchNorm(hk.BatchNorm):
  """Batch normalization, always computed in float32.

  The running averages have a decay rate of 0.9 per step, as published.
  """

  def __init__(self, config: ModelConfig, name: str):
    """Creates the layer.

    Args:
      config: the model's configuration; devices average over its
        `batch_norm_axis`.
      name: the Haiku module's name.
    """
    super().__init__(
      create_scale=True,
      create_offset=True,
      decay_rate=0.9,
      # Parameters are created outside of any pmap.
      cross_replica_axis=None if hk.running_init() else config.batch_norm_axis,
      name=name,
    )

  def __call__(self, inputs: jax.Array, is_training: bool) -> jax.Array:
    """Normalizes float[B, H, W, C] to the same shape and dtype."""
    outputs = super().__call__(inputs.astype(jnp.float32), is_training)
    return outputs.astype(inputs.dtype)


class ResBlock(hk.Module):
  """A bottleneck block with batch normalization, v2 or v1."""

  def __init__(self, config: ModelConfig, plan: scaling.BlockPlan):
    """Creates the layers.

    Args:
      config: the model's configuration; `preactivation` selects v2.
      plan: the block's channels and stride.
    """
    version = 2 if config.preactivation else 1
    super().__init__(name=f'{config.block_name}_v{version}')
    self.config, self.plan = config, plan
    self.activation = activations.get(config.activation).function
    self.norms = [BatchNorm(config, f'bn{i}') for i in range(3)]
    self.convs = _bottleneck_convs(plan)
    self.conv_shortcut = _shortcut_conv(plan)
    self.shortcut_norm = None
    if self.conv_shortcut is not None and not config.preactivation:
      self.shortcut_norm = BatchNorm(config, 'shortcut_bn')
    self.attention = nf_block.make_attention(config, plan.out_channels)

  def __call__(
    self,
    inputs: jax.Array,
    is_training: bool,
    kept: jax.typing.ArrayLike = 1.0,
  ) -> tuple[jax.Array, jax.Array]:
    """Applies the block, see `nf_block.NFBlock.__call__`.

    In training, normalization uses the batch's own mean and variance.
    """
    shortcut = h = inputs
    for conv, norm in zip(self.convs, self.norms, strict=True):
      if self.config.preactivation:
        h = self.activation(norm(h, is_training))
        if conv is self.convs[0] and self.conv_shortcut is not None:
          shortcut = self.conv_shortcut(h)
        h = conv(h)
      else:
        h = norm(conv(h), is_training)
        h = h if conv is self.convs[-1] else self.activation(h)
    if self.conv_shortcut is not None and self.shortcut_norm is not None:
      shortcut = self.shortcut_norm(self.conv_shortcut(inputs), is_training)
    if self.attention is not None:
      # Normalization sets the scale, so the gates have no gain.
      h = h * broadcast.broadcast_to(self.attention(h), h.shape)
    outputs = shortcut + h * kept
    if not self.config.preactivation:
      outputs = self.activation(outputs)
    return outputs, h


class ResNet(trunk.Trunk):
  """A ResNet with batch normalization."""

  def __init__(self, config: ModelConfig):
    """Creates the layers."""
    super().__init__(config, ResBlock)
    self.activation = activations.get(config.activation).function
    self.initial_conv = _stem_conv(config)
    name = 'final_bn' if config.preactivation else 'initial_bn'
    self.norm = BatchNorm(config, name)

  def apply_stem(
    self, images: jax.Array, is_training: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the first block's input and the feature map of stride 2."""
    h = self.initial_conv(images)
    if not self.config.preactivation:
      h = self.activation(self.norm(h, is_training))
    return self.pool_stem(h), h

  def apply_final_activation(
    self, inputs: jax.Array, is_training: bool
  ) -> jax.Array:
    """Returns the array to pool, given the last feature map."""
    if not self.config.preactivation:
      return inputs
    return self.activation(self.norm(inputs, is_training))


class FixupBlock(hk.Module):
  """A bottleneck block with scalar biases and a scale, by Fixup's rules."""

  def __init__(self, config: ModelConfig, plan: scaling.BlockPlan):
    """Creates the layers.

    Args:
      config: the model's configuration; its number of blocks scales the initial
        filters.
      plan: the block's channels and stride.
    """
    super().__init__(name=config.block_name)
    self.plan = plan
    self.activation = activations.get(config.activation).function
    self.convs = _bottleneck_convs(
      plan,
      _fan_out_normal(plan.bottleneck, 1, config),
      _fan_out_normal(plan.bottleneck, 3, config),
      jnp.zeros,
    )
    self.conv_shortcut = _shortcut_conv(
      plan, _fan_out_normal(plan.out_channels, 1)
    )

  def __call__(
    self,
    inputs: jax.Array,
    is_training: bool,
    kept: jax.typing.ArrayLike = 1.0,
  ) -> tuple[jax.Array, jax.Array]:
    """Applies the block, see `nf_block.NFBlock.__call__`."""
    del is_training
    shifted = _shift(inputs, 'bias1a')
    h = self.convs[0](shifted)
    h = self.activation(_shift(h, 'bias1b'))
    h = self.convs[1](_shift(h, 'bias2a'))
    h = self.activation(_shift(h, 'bias2b'))
    h = self.convs[2](_shift(h, 'bias3a'))
    scale = hk.get_parameter('scale', (), init=jnp.ones)
    h = _shift(h * broadcast.broadcast_to(scale, h.shape), 'bias3b')
    shortcut = inputs
    if self.conv_shortcut is not None:
      shortcut = self.conv_shortcut(shifted)
    return self.activation(shortcut + h * kept), h


class FixupResNet(trunk.Trunk):
  """A ResNet without normalization, initialized by Fixup's rules."""

  def __init__(self, config: ModelConfig):
    """Creates the layers."""
    super().__init__(config, FixupBlock)
    self.activation = activations.get(config.activation).function
    self.initial_conv = _stem_conv(
      config,
      _fan_out_normal(
        scaling.stem_channels(config), scaling.stem_filters(config)[0]
      ),
    )

  def apply_stem(
    self, images: jax.Array, is_training: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the first block's input and the feature map of stride 2."""
    del is_training
    h = self.activation(_shift(self.initial_conv(images), 'bias1'))
    return self.pool_stem(h), h

  def shift_pool(self, pool: jax.Array) -> jax.Array:
    """Returns the classifier's input, given the pooled vector."""
    return _shift(pool, 'bias2')


def _shift(inputs: jax.Array, name: str) -> jax.Array:
  """Adds a scalar parameter."""
  bias = hk.get_parameter(name, (), init=jnp.zeros)
  return inputs + broadcast.broadcast_to(bias, inputs.shape)


def _fan_out_normal(
  channels: int, kernel_size: int, config: ModelConfig | None = None
) -> hk.initializers.Initializer:
  """Returns He's normal initializer by fan-out, with Fixup's factor.

  Residual branches of m = 3 convolutions have the factor
  blocks^(-1 / (2m - 2)); without a config the factor is 1.
  """
  factor = 1.0 if config is None else sum(config.depth) ** -0.25
  fan_out = channels * kernel_size**2
  return hk.initializers.RandomNormal(factor * math.sqrt(2 / fan_out))


def _stem_conv(
  config: ModelConfig, w_init: hk.initializers.Initializer | None = None
) -> plain_conv.PlainConv2D:
  size, stride = scaling.stem_filters(config)
  return plain_conv.PlainConv2D(
    scaling.stem_channels(config),
    size,
    stride=stride,
    bias_name=None,
    w_init=w_init,
    name='initial_conv',
  )


def _bottleneck_convs(
  plan: scaling.BlockPlan, *w_inits: hk.initializers.Initializer
) -> list[plain_conv.PlainConv2D]:
  """Creates the 1x1, 3x3 and 1x1 convolutions of a branch, without biases."""
  shapes = (
    (plan.bottleneck, 1, 1),
    (plan.bottleneck, 3, plan.stride),
    (plan.out_channels, 1, 1),
  )
  return [
    plain_conv.PlainConv2D(
      channels,
      size,
      stride=stride,
      bias_name=None,
      w_init=w_inits[i] if w_inits else None,
      name=f'conv{i}',
    )
    for i, (channels, size, stride) in enumerate(shapes)
  ]


def _shortcut_conv(
  plan: scaling.BlockPlan, w_init: hk.initializers.Initializer | None = None
) -> plain_conv.PlainConv2D | None:
  """Creates the 1x1 convolution of a transition block; None for others."""
  if plan.stride == 1 and plan.in_channels == plan.out_channels:
    return None
  return plain_conv.PlainConv2D(
    plan.out_channels,
    1,
    stride=plan.stride,
    bias_name=None,
    w_init=w_init,
    name='conv_shortcut',
  )


_BASE = dataclasses.replace(
  nf_resnet.NF_RESNET,
  stochdepth_rate=0.0,
  standardize=False,
  alpha=1.0,
  skip_gain=False,
  head_init=0.0,
)
_PREFIXES = {
  'resnet': dataclasses.replace(_BASE, family='ResNet', block_name='res_block'),
  'fixup_resnet': dataclasses.replace(
    _BASE, family='Fixup_ResNet', block_name='fixup_block'
  ),
}

VARIANTS = {
  f'{prefix}{layers}': dataclasses.replace(
    base, name=f'{prefix}{layers}', depth=depth
  )
  for prefix, base in _PREFIXES.items()
  for layers, depth in nf_resnet.DEPTHS.items()
}
