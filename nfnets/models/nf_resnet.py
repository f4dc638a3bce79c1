"""Normalizer-free ResNets and SkipInit ResNets as rows of a table.

References:
  Brock et al, `Characterizing signal propagation to close the performance gap
  in unnormalized ResNets <https://arxiv.org/abs/2101.08692>`_, 2021.
  De and Smith, `Batch Normalization Biases Residual Blocks Towards the
  Identity Function in Deep Networks <https://arxiv.org/abs/2002.10444>`_, 2020
  (SkipInit).
"""

import dataclasses

from nfnets.models.config import ModelConfig

# Number of layers -> blocks per stage.
DEPTHS = {
  50: (3, 4, 6, 3),
  101: (3, 4, 23, 3),
  152: (3, 8, 36, 3),
  200: (3, 24, 36, 3),
  288: (24, 24, 24, 24),
  600: (50, 50, 50, 50),
}

NF_RESNET = ModelConfig(
  name='',
  family='NF_ResNet',
  block_name='nf_res_block',
  train_size=224,
  test_size=224,
  crop_pct=0.875,
  crop_mode='center',
  stochdepth_rate=0.1,
  widths=(64, 128, 256, 512),
  depth=DEPTHS[50],
  width=4.0,
  activation='relu',
  stem='7x7_pool',
  stem_width=16,
  bottleneck_ratio=0.25,
)

_SKIPINIT = dataclasses.replace(
  NF_RESNET,
  family='SkipInit_ResNet',
  stochdepth_rate=0.0,
  standardize=False,
  alpha=1.0,
  head_init=0.0,
)

_PREFIXES = {'nf_resnet': NF_RESNET, 'skipinit_resnet': _SKIPINIT}

VARIANTS = {
  f'{prefix}{layers}': dataclasses.replace(
    base, name=f'{prefix}{layers}', depth=depth
  )
  for prefix, base in _PREFIXES.items()
  for layers, depth in DEPTHS.items()
}
