"""Normalizer-free networks: the trunk of every NF family, the NFNet variants.

References:
  Brock et al, `High-Performance Large-Scale Image Recognition Without
  Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, section 4 and
  appendix C.
"""

import dataclasses
import itertools

import haiku as hk
import jax
from jax import numpy as jnp

from nfnets.models import nf_block, scaling
from nfnets.models.config import ModelConfig

Endpoints = dict[str, jax.Array]


class NFNet(hk.Module):
  """Stem, stages of `NFBlock`s and head."""

  def __init__(self, config: ModelConfig):
    """Makes the network that a record describes.

    Args:
      config: of the model; its family names the module.

    Raises:
      UserError: if a bottleneck is narrower than one group.
    """
    super().__init__(name=config.family)
    self.config = config
    self.stem = _make_stem(config)
    self.stages = [
      [nf_block.NFBlock(config, plan) for plan in stage]
      for stage in scaling.plan_blocks(config)
    ]
    self.final_conv = None
    if config.final_width:
      self.final_conv = nf_block.ws_conv2d(
        config, scaling.final_channels(config), 1, name='final_conv'
      )
    self.linear = None
    if config.num_classes:
      self.linear = hk.Linear(
        config.num_classes,
        w_init=hk.initializers.RandomNormal(config.head_init),
        name='linear',
      )

  def __call__(
    self, images: jax.Array, is_training: bool
  ) -> tuple[jax.Array, Endpoints]:
    """Applies the network.

    Args:
      images: float[B, H, W, 3], normalised.
      is_training: whether dropout and stochastic depth act.

    Returns:
      Logits float[B, num_classes], or the pooled vector for a backbone, and
      the endpoints (see `registry.Model`).
    """
    endpoints: Endpoints = {}
    h = self._apply_stem(images, endpoints)
    blocks = itertools.count()
    for stage, layers in enumerate(self.stages):
      for layer in layers:
        h, residual = self._apply_block(layer, h, is_training)
        name = f'block_{next(blocks)}'
        endpoints |= {name: h, f'{name}/residual': residual}
      endpoints[f'stride_{4 * 2**stage}'] = h
    if self.final_conv is not None:
      h = self.final_conv(h)
      endpoints[f'stride_{4 * 2**stage}'] = h
    pool = jnp.mean(nf_block.activate(self.config, h, last=True), axis=(1, 2))
    endpoints['pool'] = pool
    if self.linear is None:
      return pool, endpoints
    if is_training and self.config.drop_rate > 0.0:
      pool = hk.dropout(hk.next_rng_key(), self.config.drop_rate, pool)
    return self.linear(pool), endpoints

  def _apply_stem(self, images: jax.Array, endpoints: Endpoints) -> jax.Array:
    """float[B, H, W, 3] to the first block's input; notes the stride-2 map."""
    h = self.stem[0](images)
    for conv in self.stem[1:]:
      endpoints['stride_2'] = h
      h = conv(nf_block.activate(self.config, h))
    if self.config.stem != 'deep':
      endpoints['stride_2'] = h
    if self.config.stem == '7x7_pool':
      h = nf_block.max_pool(h, self.config.padding)
    return h

  def _apply_block(
    self, layer: nf_block.NFBlock, inputs: jax.Array, is_training: bool
  ) -> tuple[jax.Array, jax.Array]:
    """The block's output and residual branch, recomputed if asked for."""

    def apply(h: jax.Array) -> tuple[jax.Array, jax.Array]:
      return layer(h, is_training)

    if self.config.remat and not hk.running_init():
      apply = hk.remat(apply)
    return apply(inputs)


def _make_stem(config: ModelConfig) -> list[hk.Module]:
  """The convolutions before the first block."""
  width = scaling.stem_channels(config)
  if config.stem == 'deep':
    layers = ((16, 2), (32, 1), (64, 1), (width, 2))
    return [
      nf_block.ws_conv2d(config, out, 3, stride=stride, name=f'stem_conv{i}')
      for i, (out, stride) in enumerate(layers)
    ]
  size = 7 if config.stem == '7x7_pool' else 3
  return [
    nf_block.ws_conv2d(config, width, size, stride=2, name='initial_conv')
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

# Depth, drop rate, train and test size (pixels), test crop.
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
  """F0 to F7 and the wider F0+ to F7+."""
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
