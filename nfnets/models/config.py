"""What a model is: one frozen record for every family."""

import dataclasses
from typing import Literal

from nfnets import errors
from nfnets.layers import activations, ws_conv

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """A model's architecture and the images that it expects.

  Everything that the weights do not hold and that changes the logits is here,
  so that a file of weights and this record make the network.
  """

  name: str
  # The parameters are named family/~/block_name[_i]/~/conv0/w and so on.
  family: str  # 'NFNet', 'NF_ResNet', 'NF_RegNet', ...
  block_name: str
  num_classes: int = 1000  # 0: backbone, the logits are the pooled vector

  # Images.
  train_size: int = 224  # pixels
  test_size: int = 224  # pixels
  crop_pct: float = 0.875  # side of the test crop / side of the resized image
  crop_mode: Literal['squash', 'center'] = 'center'
  mean: tuple[float, float, float] = IMAGENET_MEAN  # of RGB in [0, 1]
  std: tuple[float, float, float] = IMAGENET_STD

  # Regularisation.
  drop_rate: float = 0.0  # dropout before the classifier
  stochdepth_rate: float = 0.0  # see scaling.stochastic_depth_rates

  # Trunk: stage s has depth[s] blocks of widths[s] * width channels.
  widths: tuple[int, ...] = ()
  depth: tuple[int, ...] = ()
  width: float = 1.0
  channel_divisor: int = 1  # see scaling.round_channels
  activation: str = 'relu'
  remat: bool = False  # recompute each block's activations in the gradient

  # Stem: 'deep' (four 3x3 convolutions, stride 4), '3x3' (one, stride 2) or
  # '7x7_pool' (7x7 and a max-pool, stride 4).
  stem: Literal['deep', '3x3', '7x7_pool'] = '7x7_pool'
  # Channels out of it, times width unless it is deep.
  stem_width: int = 64

  # Blocks.
  bottleneck_ratio: float = 0.25
  # Input channels give the bottleneck its width (the first block's ratio is
  # then 1) and attention acts inside it, as in RegNet; otherwise the output's.
  inverted: bool = False
  group_size: int = 0  # channels per group of the 3x3 convolutions; 0: dense
  extra_conv: bool = False  # a second 3x3 convolution
  pool_shortcut: bool = False  # 2x2 average before the 1x1; else stride 2
  se_ratio: float = 0.0  # hidden share of squeeze-excite; 0: none
  se_divisor: int = 1  # see scaling.hidden_channels
  eca: bool = False  # efficient channel attention in place of squeeze-excite
  final_width: int = 0  # the last 1x1 convolution's, times width; 0: none
  head_init: float = 0.01  # std of the classifier's initial weights

  # Signal propagation.
  alpha: float = 0.2
  skip_gain: bool = True  # a learnt scalar per residual branch. Without it
  # the gains of a branch's last convolution start at skip_gain_init instead.
  skip_gain_init: float = 0.0
  # Standardized convolutions, gamma-scaled activations and beta; without it
  # convolutions are plain (SkipInit).
  standardize: bool = True
  # Activations are not scaled; every standardized convolution, the first and
  # the last included, multiplies its filters by gamma instead (timm).
  gamma_in_weights: bool = False
  # Standardization, gains and gammas are in the filters already, which are
  # plain convolutions then: see folding.fold. For inference.
  folded: bool = False

  # Batch normalization (the ResNet family).
  preactivation: bool = True  # v2; else v1
  # Name of the pmap axis over which batches are normalised as one; training's
  # is 'devices'. None: each device by its own batch.
  batch_norm_axis: str | None = None

  # Conventions: see ws_conv.explicit_padding (and the stem's max-pool) and
  # ws_conv.standardize_weight.
  padding: ws_conv.PaddingRule = 'same'
  ws_epsilon: ws_conv.Epsilon = 'floor'

  def __post_init__(self) -> None:
    """Rejects what no network can have."""
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
      raise errors.UserError(f'width is {self.width}, expected more than 0')
