"""Arithmetic shared by all families: plain Python, no arrays."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from nfnets import errors
from nfnets.models.config import ModelConfig


class BlockPlan(NamedTuple):
  """Where a block stands and how wide it is.

  Attributes:
    in_channels: of its input.
    out_channels: of its output.
    bottleneck: channels between its first and last convolution.
    groups: of its 3x3 convolutions.
    stride: 1, or 2 to halve height and width.
    beta: 1 / the expected standard deviation of its input.
  """

  in_channels: int
  out_channels: int
  bottleneck: int
  groups: int
  stride: int
  beta: float


def plan_blocks(config: ModelConfig) -> list[list[BlockPlan]]:
  """Every block of every stage.

  Args:
    config: of the model.

  Returns:
    One list per stage.

  Raises:
    UserError: if a bottleneck is narrower than one group.
  """
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
      halves = block == 0 and (stage > 0 or config.stem == '3x3')
      stride = 2 if halves else 1
      stages[-1].append(
        BlockPlan(
          channels,
          width,
          bottleneck,
          groups,
          stride,
          next(factors),
        )
      )
      channels = width
  return stages


def stage_channels(config: ModelConfig) -> list[int]:
  """Output channels of every stage."""
  return [
    round_channels(width * config.width, config.channel_divisor)
    for width in config.widths
  ]


def stem_channels(config: ModelConfig) -> int:
  """Output channels of the stem."""
  scale = 1.0 if config.stem == 'deep' else config.width
  return round_channels(config.stem_width * scale, config.channel_divisor)


def final_channels(config: ModelConfig) -> int:
  """Output channels of the last 1x1 convolution, 0 if there is none."""
  if not config.final_width:
    return 0
  return round_channels(
    config.final_width * config.width, config.channel_divisor
  )


def _bottleneck(config: ModelConfig, channels: float) -> tuple[int, int]:
  """Width and groups of a bottleneck that should have so many channels."""
  width = round_channels(channels, config.channel_divisor)
  if not config.group_size:
    return width, 1
  groups = group_count(width, config.group_size)
  return groups * config.group_size, groups


def betas(depth: Sequence[int], alpha: float) -> list[float]:
  """1 / the standard deviation that each block's input is expected to have.

  The variance starts at 1 and grows by alpha squared in every block; in a
  stage's first block the shortcut is a convolution of the normalised signal,
  so that the variance falls back to 1 before it grows.

  Args:
    depth: blocks per stage.
    alpha: factor of the residual branches.

  Returns:
    One factor per block, in order.

  References:
    Brock et al, `arXiv 2101.08692 <https://arxiv.org/abs/2101.08692>`_,
    section 3.
  """
  factors, variance = [], 1.0
  for blocks in depth:
    for block in range(blocks):
      factors.append(1.0 / math.sqrt(variance))
      variance = (1.0 if block == 0 else variance) + alpha**2
  return factors


def stochastic_depth_rates(rate: float, num_blocks: int) -> list[float]:
  """Drop rates that rise linearly: rate * i / num_blocks for block i.

  The last block gets rate * (num_blocks - 1) / num_blocks, as published.
  """
  return [rate * block / num_blocks for block in range(num_blocks)]


def round_channels(channels: float, divisor: int) -> int:
  """Channels as an integer: truncated, or rounded to multiples of a divisor.

  Args:
    channels: wanted.
    divisor: 1 truncates (the published networks). More rounds to the nearest
      multiple, at least one, and up where that would lose over 10% (timm).

  Returns:
    Number of channels, at least 1.
  """
  if divisor == 1:
    return max(1, int(channels))
  rounded = nearest_multiple(channels, divisor)
  return rounded + divisor if rounded < 0.9 * channels else rounded


def nearest_multiple(channels: float, divisor: int) -> int:
  """The multiple of the divisor nearest to channels (halves up), at least 1."""
  return max(divisor, int(channels + divisor / 2) // divisor * divisor)


def hidden_channels(channels: int, ratio: float, divisor: int) -> int:
  """Width inside squeeze-excite: channels * ratio as an integer, at least 1."""
  if divisor == 1:
    return max(1, int(channels * ratio))
  return nearest_multiple(channels * ratio, divisor)


def group_count(bottleneck: int, group_size: int) -> int:
  """Number of whole groups in a bottleneck.

  Args:
    bottleneck: channels wanted.
    group_size: channels per group.

  Returns:
    At least 1; the bottleneck's width becomes count * group_size.

  Raises:
    UserError: if the bottleneck is narrower than one group.
  """
  if bottleneck < group_size:
    raise errors.UserError(
      f'a bottleneck of {bottleneck} channels is narrower than one group of '
      f'{group_size}: raise width or lower group_size'
    )
  return bottleneck // group_size
