"""The network of all NF families, and the NFNet variants as a table.

References:
  Brock et al, `High-Performance Large-Scale Image Recognition Without
  Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, section 4 and
  appendix C.
"""

import dataclasses

import haiku as hk
import jax

from nfnets.models import nf_block, scaling, trunk
from nfnets.models.config import ModelConfig


class NFNet(trunk.Trunk):
  """A network of `NFBlock`s: NFNet, NF-RegNet, NF-ResNet and SkipInit."""

  def __init__(self, config: ModelConfig):
    """Creates the layers.

    Args:
      config: the model's configuration; `family` is the module's name.

    Raises:
      UserError: if a bottleneck is narrower than one group.
    """
    super().__init__(config, nf_block.NFBlock)
    self.stem = _make_stem(config)
    self.final_conv = None
    if config.final_width:
      self.final_conv = nf_block.make_conv(
        config, scaling.final_channels(config), 1, name='final_conv'
      )

  def apply_stem(
    self, images: jax.Array, is_training: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the first block's input and the stem's last feature map."""
    del is_training
    h = stride_2 = self.stem[0](images)
    for conv in self.stem[1:]:
      stride_2 = h
      h = conv(nf_block.activate(self.config, h))
    return self.pool_stem(h), stride_2

  def apply_final_conv(self, inputs: jax.Array) -> jax.Array:
    """Returns the last feature map, given the last block's output."""
    return inputs if self.final_conv is None else self.final_conv(inputs)

  def apply_final_activation(
    self, inputs: jax.Array, is_training: bool
  ) -> jax.Array:
    """Returns the array to pool, given the last feature map."""
    del is_training
    return nf_block.activate(self.config, inputs, last=True)


def _make_stem(config: ModelConfig) -> list[hk.Module]:
  """Creates the convolutions before the first block."""
  width = scaling.stem_channels(config)
  if config.stem == 'deep':
    layers = ((16, 2), (32, 1), (64, 1), (width, 2))
    return [
      nf_block.make_conv(config, out, 3, stride=stride, name=f'stem_conv{i}')
      for i, (out, stride) in enumerate(layers)
    ]
  size, stride = scaling.stem_filters(config)
  return [
    nf_block.make_conv(
      config,
      width,
      size,
      stride=stride,
      with_bias=config.standardize,  # SkipInit's has none
      name='initial_conv',
    )
  ]


_BASE = ModelConfig(
  name='',
  family='NFNet',
  block_name='nf_block',
  crop_mode='squash',
  stochdepth_rate=0.25,
  widths=(256, 512, 1536, 1536),
  depth=(1, 2, 6, 3),
  activation='gelu',
  stem='deep',
  stem_width=128,
  bottleneck_ratio=0.5,
  group_size=128,
  extra_conv=True,
  pool_shortcut=True,
  se_ratio=0.5,
  final_width=3072,
)

# Depth, drop rate, train and test size in pixels, test crop fraction.
_ROWS = {
  'nfnet_f0': ((1, 2, 6, 3), 0.2, 192, 256, 0.9),
  'nfnet_f1': ((2, 4, 12, 6), 0.3, 224, 320, 0.91),
  'nfnet_f2': ((3, 6, 18, 9), 0.4, 256, 352, 0.92),
  'nfnet_f3': ((4, 8, 24, 12), 0.4, 320, 416, 0.94),
  'nfnet_f4': ((5, 10, 30, 15), 0.5, 384, 512, 0.951),
  'nfnet_f5': ((6, 12, 36, 18), 0.5, 416, 544, 0.954),
  'nfnet_f6': ((7, 14, 42, 21), 0.5, 448, 576, 0.956),
  'nfnet_f7': ((8, 16, 48, 24), 0.5, 480, 608, 0.95),
}


def _variants() -> dict[str, ModelConfig]:
  """Returns F0 to F7 and the wider F0+ to F7+."""
  variants = {}
  for name, (depth, drop_rate, train_size, test_size, crop) in _ROWS.items():
    variants[name] = dataclasses.replace(
      _BASE,
      name=name,
      depth=depth,
      drop_rate=drop_rate,
      train_size=train_size,
      test_size=test_size,
      crop_pct=crop,
    )
    plus = f'{name}+'
    variants[plus] = dataclasses.replace(
      variants[name],
      name=plus,
      widths=(384, 768, 2048, 2048),
      stem_width=192,
      final_width=4096,
    )
  return variants


VARIANTS = _variants()
