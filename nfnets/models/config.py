"""The configuration of a model: one frozen record for all families."""

import dataclasses
import functools
import math
import numbers
import types
import typing
from typing import Any, Literal, cast

from nfnets import errors
from nfnets.layers import activations, ws_conv

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# No layer can have more channels, and no image more pixels on a side. Without
# these limits, a damaged file could describe a network that takes minutes to
# trace, or numbers that overflow.
MAX_CHANNELS = 2**20
_MAX_SIDE = 2**14
_MAX_BLOCKS = 10_000  # of a stage
_MAX_FACTOR = 1e6
# Field -> the smallest and the largest possible value of each of its numbers.
_LIMITS: dict[str, tuple[float, float]] = {
  'num_classes': (0, 2**24),
  'train_size': (1, _MAX_SIDE),
  'test_size': (1, _MAX_SIDE),
  'std': (1e-6, _MAX_FACTOR),
  'widths': (1, MAX_CHANNELS),
  'depth': (1, _MAX_BLOCKS),
  'channel_divisor': (1, MAX_CHANNELS),
  'stem_width': (1, MAX_CHANNELS),
  'bottleneck_ratio': (1e-6, _MAX_FACTOR),
  'group_size': (0, MAX_CHANNELS),
  'se_ratio': (0, _MAX_FACTOR),
  'se_divisor': (1, MAX_CHANNELS),
  'final_width': (0, MAX_CHANNELS),
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """A model's architecture and the images it expects.

  Together with the weights it determines the network completely.
  """

  name: str
  # Parameters are named family/~/block_name[_i]/~/conv0/w and so on.
  family: str  # 'NFNet', 'NF_ResNet', 'NF_RegNet', ...
  block_name: str
  num_classes: int = 1000  # 0: a backbone, which returns the pooled vector

  # Images.
  train_size: int = 224  # height and width in pixels
  test_size: int = 224  # height and width in pixels
  crop_pct: float = 0.875  # side of the test crop / side of the resized image
  crop_mode: Literal['squash', 'center'] = 'center'
  mean: tuple[float, float, float] = IMAGENET_MEAN  # per RGB channel in [0, 1]
  std: tuple[float, float, float] = IMAGENET_STD

  # Regularization.
  drop_rate: float = 0.0  # dropout rate before the classifier
  stochdepth_rate: float = 0.0  # see scaling.stochastic_depth_rates

  # Trunk: stage s has depth[s] blocks with widths[s] * width channels.
  widths: tuple[int, ...] = ()
  depth: tuple[int, ...] = ()
  width: float = 1.0
  channel_divisor: int = 1  # see scaling.round_channels
  activation: str = 'relu'  # a key of activations.ACTIVATIONS
  remat: bool = False  # the gradient recomputes the activations of each block

  # Stem: 'deep' (four 3x3 convolutions, stride 4), '3x3' (one, stride 2),
  # '7x7_pool' (a 7x7 convolution and max pooling, stride 4), or 'small' (a 3x3
  # convolution, stride 1) for images of about 32 pixels.
  stem: Literal['deep', '3x3', '7x7_pool', 'small'] = '7x7_pool'
  # Output channels of the stem; multiplied by width unless the stem is 'deep'.
  stem_width: int = 64

  # Blocks.
  bottleneck_ratio: float = 0.25  # bottleneck channels / output channels
  # RegNet's blocks: the ratio is relative to the input channels (and 1 in the
  # first block), and attention is inside the bottleneck, not at its end.
  inverted: bool = False
  group_size: int = 0  # channels per group of the 3x3 convolutions; 0: dense
  extra_conv: bool = False  # adds a second 3x3 convolution
  # Shortcuts that halve the image average 2x2 pixels before their 1x1
  # convolution; otherwise the convolution has stride 2.
  pool_shortcut: bool = False
  se_ratio: float = 0.0  # hidden / input channels of squeeze-excite; 0: none
  se_divisor: int = 1  # see scaling.hidden_channels
  eca: bool = False  # efficient channel attention instead of squeeze-excite
  # Channels of the last 1x1 convolution, multiplied by width; 0: none.
  final_width: int = 0
  head_init: float = 0.01  # std of the classifier's initial weights

  # Signal propagation.
  alpha: float = 0.2  # factor of the residual branches
  # A learned scalar per residual branch, with this initial value. Without it
  # the gains of the branch's last convolution start at that value.
  skip_gain: bool = True
  skip_gain_init: float = 0.0
  # Standardized convolutions, gamma-scaled activations and beta. False: plain
  # convolutions, as in SkipInit.
  standardize: bool = True
  # timm: activations are not scaled; instead every standardized convolution,
  # even the first and the last, multiplies its filters by gamma.
  gamma_in_weights: bool = False
  # For inference: convolutions are plain, with standardization, gains and
  # gammas already in their filters. See folding.fold.
  folded: bool = False

  # Batch normalization (the ResNet family).
  preactivation: bool = True  # ResNet v2; False: v1
  # Name of the pmap axis over which batch statistics are averaged; training
  # calls it 'devices'. None: each device uses its own batch.
  batch_norm_axis: str | None = None

  # Conventions of the published networks or of timm: for convolutions and the
  # stem's max pooling see ws_conv.explicit_padding, for the variance see
  # ws_conv.standardize_weight.
  padding: ws_conv.PaddingRule = 'same'
  ws_epsilon: ws_conv.Epsilon = 'floor'

  def __post_init__(self) -> None:
    """Rejects values that no network can have.

    Raises:
      UserError: if a field has another type or is out of its range.
    """
    for field, kind in _kinds().items():
      if not _is_kind(getattr(self, field), kind):
        raise errors.UserError(
          f'{field} is {getattr(self, field)!r:.80}, expected {_describe(kind)}'
        )
    activations.get(self.activation)
    whole = all(isinstance(blocks, int) and blocks > 0 for blocks in self.depth)
    if not whole or len(self.depth) != len(self.widths):
      raise errors.UserError(
        f'depth is {self.depth}, expected {len(self.widths)} stages of at '
        f'least 1 block for {self.name}'
      )
    for field in ('drop_rate', 'stochdepth_rate'):
      if not 0.0 <= getattr(self, field) < 1.0:
        raise errors.UserError(
          f'{field} is {getattr(self, field)}, expected 0 <= {field} < 1'
        )
    for field in ('num_classes', 'group_size', 'se_ratio', 'final_width'):
      if getattr(self, field) < 0:
        raise errors.UserError(
          f'{field} is {getattr(self, field)}, expected at least 0'
        )
    if self.width <= 0:
      raise errors.UserError(f'width is {self.width}, expected a value above 0')
    for field in _numeric():
      low, high = _LIMITS.get(field, (-_MAX_FACTOR, _MAX_FACTOR))
      values = getattr(self, field)
      for value in values if isinstance(values, tuple) else (values,):
        if not low <= value <= high:
          raise errors.UserError(
            f'{field} is {values!r:.80}, expected {low:g} to {high:g}'
          )


@functools.cache
def _kinds() -> dict[str, Any]:
  """Returns the type of each field."""
  return typing.get_type_hints(ModelConfig)


@functools.cache
def _numeric() -> tuple[str, ...]:
  """Returns the fields that hold numbers."""
  return tuple(
    field
    for field, kind in _kinds().items()
    if kind in (int, float) or typing.get_origin(kind) is tuple
  )


def _is_kind(value: object, kind: Any) -> bool:
  """Returns whether a value is of a type; numbers must be finite."""
  origin, members = typing.get_origin(kind), typing.get_args(kind)
  if origin is Literal:
    return isinstance(value, str) and value in members
  if origin is types.UnionType:
    return any(_is_kind(value, member) for member in members)
  if origin is tuple:
    if not isinstance(value, tuple):
      return False
    is_long = members[-1] is ... or len(members) == len(value)
    return is_long and all(_is_kind(item, members[0]) for item in value)
  if kind is int:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if kind is float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
      return False
    # isfinite fails for huge integers.
    return -math.inf < cast(float, value) < math.inf
  return isinstance(value, kind)


def _describe(kind: Any) -> str:
  """Describes a type in words."""
  origin, members = typing.get_origin(kind), typing.get_args(kind)
  if origin is Literal:
    return f'one of {", ".join(members)}'
  if origin is types.UnionType:
    return ' or '.join(map(_describe, members))
  if origin is tuple:
    count = 'several' if members[-1] is ... else len(members)
    return f'{count} numbers'
  names = {
    int: 'an integer',
    float: 'a number',
    bool: 'True or False',
    str: 'a string',
  }
  return names.get(kind, 'None')
