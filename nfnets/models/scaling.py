"""Channels, groups and factors of every block, in plain Python."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from nfnets import errors
from nfnets.models.config import MAX_CHANNELS, ModelConfig


class BlockPlan(NamedTuple):
  """The dimensions and the input scale of a block.

  Attributes:
    in_channels: number of input channels.
    out_channels: number of output channels.
    bottleneck: channels between the first and the last convolution.
    groups: number of groups of the 3x3 convolutions.
    stride: 1, or 2 to halve height and width.
    beta: 1 / expected standard deviation of the input.
  """

  in_channels: int
  out_channels: int
  bottleneck: int
  groups: int
  stride: int
  beta: float


def plan_blocks(config: ModelConfig) -> list[list[BlockPlan]]:
  """Plans the blocks of a model.

  Args:
    config: the model's configuration.

  Returns:
    One list of blocks per stage.

  Raises:
    UserError: if a bottleneck is narrower than one group, or a layer wider
      than any can be.
  """
  final_channels(config)
  alpha = config.alpha if config.standardize else 0.0
  factors = iter(betas(config.depth, alpha))
  channels = stem_channels(config)
  stages: list[list[BlockPlan]] = []
  for stage, width in enumerate(stage_channels(config)):
    stages.append([])
    for block in range(config.depth[stage]):
      first = stage == 0 and block == 0
      ratio = 1.0 if config.inverted and first else config.bottleneck_ratio
      bottleneck, groups = _bottleneck(
        config, ratio * (channels if config.inverted else width)
      )
      widest = max(width, bottleneck)
      hidden_channels(widest, config.se_ratio, config.se_divisor)
      halves = block == 0 and (stage > 0 or config.stem == '3x3')
      stride = 2 if halves else 1
      stages[-1].append(
        BlockPlan(channels, width, bottleneck, groups, stride, next(factors))
      )
      channels = width
  return stages


def stage_channels(config: ModelConfig) -> list[int]:
  """Returns the number of output channels of each stage."""
  return [
    round_channels(width * config.width, config.channel_divisor)
    for width in config.widths
  ]


def stem_channels(config: ModelConfig) -> int:
  """Returns the number of output channels of the stem."""
  scale = 1.0 if config.stem == 'deep' else config.width
  return round_channels(config.stem_width * scale, config.channel_divisor)


def stem_filters(config: ModelConfig) -> tuple[int, int]:
  """Returns size and stride in pixels of the only convolution of a stem.

  Not for the stem 'deep', which has several.
  """
  sizes = {'7x7_pool': (7, 2), '3x3': (3, 2), 'small': (3, 1)}
  return sizes[config.stem]


def final_channels(config: ModelConfig) -> int:
  """Returns the number of output channels of the last 1x1 convolution."""
  return round_channels(
    config.final_width * config.width, config.channel_divisor
  )


def _bottleneck(config: ModelConfig, channels: float) -> tuple[int, int]:
  """Returns width and groups of a bottleneck of about `channels` channels."""
  width = round_channels(channels, config.channel_divisor)
  if not config.group_size:
    return width, 1
  groups = group_count(width, config.group_size)
  return groups * config.group_size, groups


def betas(depth: Sequence[int], alpha: float) -> list[float]:
  """Returns 1 / the expected standard deviation of each block's input.

  The variance starts at 1, and each block adds alpha squared to it. In the
  first block of a stage the shortcut is a convolution of the normalized signal,
  which resets the variance to 1 before the block adds to it.

  Args:
    depth: blocks per stage.
    alpha: factor of the residual branches.

  Returns:
    One factor per block, in order.

  References:
    Brock et al, `Characterizing signal propagation to close the performance gap
    in unnormalized ResNets <https://arxiv.org/abs/2101.08692>`_, 2021, section
    3.
  """
  factors, variance = [], 1.0
  for blocks in depth:
    for block in range(blocks):
      factors.append(1.0 / math.sqrt(variance))
      variance = (1.0 if block == 0 else variance) + alpha**2
  return factors


def stochastic_depth_rates(rate: float, num_blocks: int) -> list[float]:
  """Returns drop rates that rise linearly: rate * i / num_blocks for block i.

  The last block has rate * (num_blocks - 1) / num_blocks, as published.
  """
  return [rate * block / num_blocks for block in range(num_blocks)]


def round_channels(channels: float, divisor: int) -> int:
  """Rounds a number of channels to an integer.

  Args:
    channels: the exact number.
    divisor: 1 truncates, as in the published networks. A larger one rounds to
      its nearest positive multiple, or to the next one if over 10% of the
      channels would be lost, as in timm.

  Returns:
    An integer of at least 1.

  Raises:
    UserError: if no layer can have as many channels.
  """
  _check_possible(channels)
  if divisor == 1:
    return max(1, int(channels))
  rounded = _nearest_multiple(channels, divisor)
  return rounded + divisor if rounded < 0.9 * channels else rounded


def _check_possible(channels: float) -> None:
  if channels > MAX_CHANNELS:
    raise errors.UserError(
      f'a layer of {channels:.0f} channels is wider than {MAX_CHANNELS}: lower'
      ' width, bottleneck_ratio or se_ratio'
    )


def _nearest_multiple(channels: float, divisor: int) -> int:
  """Returns the nearest positive multiple of the divisor; halves round up."""
  return max(divisor, int(channels + divisor / 2) // divisor * divisor)


def hidden_channels(channels: int, ratio: float, divisor: int) -> int:
  """Returns the width inside squeeze-excite.

  Args:
    channels: number of input channels.
    ratio: hidden / input channels.
    divisor: 1 truncates channels * ratio; a larger one rounds to its nearest
      positive multiple.

  Returns:
    An integer of at least 1.

  Raises:
    UserError: if no layer can have as many channels.
  """
  _check_possible(channels * ratio)
  if divisor == 1:
    return max(1, int(channels * ratio))
  return _nearest_multiple(channels * ratio, divisor)


def group_count(bottleneck: int, group_size: int) -> int:
  """Returns the number of whole groups in a bottleneck.

  Args:
    bottleneck: number of channels before rounding down to whole groups.
    group_size: channels per group.

  Returns:
    A count of at least 1; the bottleneck gets count * group_size channels.

  Raises:
    UserError: if the bottleneck is narrower than one group.
  """
  if bottleneck < group_size:
    raise errors.UserError(
      f'a bottleneck of {bottleneck} channels is narrower than one group of '
      f'{group_size}: raise width or lower group_size'
    )
  return bottleneck // group_size
