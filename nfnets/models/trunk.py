"""The structure of all families: stem, stages of blocks, classifier."""

from collections.abc import Callable, Sequence

import haiku as hk
import jax
from jax import lax
from jax import numpy as jnp

from nfnets.layers import linear, pooling, stochastic_depth
from nfnets.models import scaling
from nfnets.models.config import ModelConfig
from nfnets.models.types import Endpoints

# (inputs, is_training, kept) -> (outputs, residual branch)
Block = Callable[
  [jax.Array, bool, jax.typing.ArrayLike], tuple[jax.Array, jax.Array]
]

# Folded into an image's key to keep the two kinds of draws independent.
_STOCHASTIC_DEPTH, _DROPOUT = 0, 1


class Trunk(hk.Module):
  """Maps images to logits; subclasses define stem, blocks and last layers."""

  def __init__(
    self,
    config: ModelConfig,
    make_block: Callable[[ModelConfig, scaling.BlockPlan], Block],
  ):
    """Creates the stages and the classifier.

    Args:
      config: the model's configuration; `family` is the module's name.
      make_block: creates a block from its plan.
    """
    super().__init__(name=config.family)
    self.config = config
    self.stages: list[list[Block]] = [
      [make_block(config, plan) for plan in stage]
      for stage in scaling.plan_blocks(config)
    ]
    self.linear = None
    if config.num_classes:
      self.linear = linear.Linear(
        config.num_classes,
        w_init=hk.initializers.RandomNormal(config.head_init),
        name='linear',
      )

  def __call__(
    self,
    images: jax.Array,
    is_training: bool,
    keys: jax.Array | None,
    frozen: int = 0,
  ) -> tuple[jax.Array, Endpoints]:
    """Applies the network.

    Args:
      images: float[B, H, W, 3], normalized.
      is_training: whether to apply dropout and stochastic depth, and to use the
        batch's own statistics in batch normalization.
      keys: one random key per image, key[B], or None if nothing is drawn.
      frozen: number of frozen parts, see `registry.frozen`.

    Returns:
      Logits float[B, num_classes], or the pooled vector float[B, C] of a
      backbone, and the endpoints (see `registry.Model`).
    """
    kept = self._draw_kept(keys, images.dtype, is_training)
    h, stride_2 = self.apply_stem(images, is_training and not frozen)
    h = _end_frozen(h, frozen == 1)
    # A stem for small images keeps their resolution.
    stride = 1 if self.config.stem == 'small' else 4
    endpoints = {'stride_2': stride_2} if stride > 1 else {}
    block = 0
    for stage, layers in enumerate(self.stages):
      part = stage + 2
      trains = is_training and frozen < part
      for layer in layers:
        h, residual = self._apply_block(layer, h, trains, kept[block])
        endpoints |= {f'block_{block}': h, f'block_{block}/residual': residual}
        block += 1
      h = _end_frozen(h, frozen == part)
      if stage == len(self.stages) - 1:
        h = self.apply_final_conv(h)
      endpoints[f'stride_{stride * 2**stage}'] = h
    all_frozen = frozen > len(self.stages) + 1
    h = self.apply_final_activation(h, is_training and not all_frozen)
    pool = jnp.mean(h, axis=(1, 2))
    endpoints['pool'] = pool
    if self.linear is None:
      return pool, endpoints
    if is_training and self.config.drop_rate > 0.0:
      pool = self._drop(keys, pool)
    features = _end_frozen(self.shift_pool(pool), all_frozen)
    return self.linear(features), endpoints

  def apply_stem(
    self, images: jax.Array, is_training: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the first block's input and the feature map of stride 2.

    Args:
      images: float[B, H, W, 3], normalized.
      is_training: see `__call__`.
    """
    raise NotImplementedError

  def pool_stem(self, inputs: jax.Array) -> jax.Array:
    """Applies max pooling to the stem's output, if the stem has it."""
    if self.config.stem != '7x7_pool':
      return inputs
    return pooling.max_pool(inputs, self.config.padding)

  def apply_final_conv(self, inputs: jax.Array) -> jax.Array:
    """Returns the last feature map, given the last block's output."""
    return inputs

  def apply_final_activation(
    self, inputs: jax.Array, is_training: bool
  ) -> jax.Array:
    """Returns the array to pool, given the last feature map."""
    del is_training
    return inputs

  def shift_pool(self, pool: jax.Array) -> jax.Array:
    """Returns the classifier's input, given the pooled vector."""
    return pool

  def _draw_kept(
    self, keys: jax.Array | None, dtype: jnp.dtype, is_training: bool
  ) -> Sequence[jax.typing.ArrayLike]:
    """Draws each block's `kept` (see `stochastic_depth.draw_kept`)."""
    count = sum(self.config.depth)
    if not is_training or not self.config.stochdepth_rate:
      return [1.0] * count
    rates = scaling.stochastic_depth_rates(self.config.stochdepth_rate, count)
    return stochastic_depth.draw_kept(
      _fold(keys, _STOCHASTIC_DEPTH), rates, dtype
    )

  def _drop(self, keys: jax.Array | None, pool: jax.Array) -> jax.Array:
    """Applies dropout to the pooled vector of each image."""
    rate = self.config.drop_rate
    return jax.vmap(lambda key, vector: hk.dropout(key, rate, vector))(
      _fold(keys, _DROPOUT), pool
    )

  def _apply_block(
    self,
    layer: Block,
    inputs: jax.Array,
    is_training: bool,
    kept: jax.typing.ArrayLike,
  ) -> tuple[jax.Array, jax.Array]:
    """Applies a block; with `remat` the gradient recomputes it."""

    def apply(h: jax.Array) -> tuple[jax.Array, jax.Array]:
      return layer(h, is_training, kept)

    if self.config.remat and not hk.running_init():
      apply = hk.remat(apply)
    return apply(inputs)


def _end_frozen(h: jax.Array, ends: bool) -> jax.Array:
  """Returns the output of a part; no gradient passes the last frozen one."""
  return lax.stop_gradient(h) if ends else h


def _fold(keys: jax.Array | None, stream: int) -> jax.Array:
  """Returns one key per image for one of the streams above."""
  if keys is None:
    raise ValueError(
      'key is None: dropout and stochastic depth need a random key in training'
    )
  return jax.vmap(lambda key: jax.random.fold_in(key, stream))(keys)
