"""Normalizer-free RegNets as rows of a table.

References:
  Brock et al, `Characterizing signal propagation to close the performance gap
  in unnormalized ResNets <https://arxiv.org/abs/2101.08692>`_, 2021, section 6
  and appendix.
"""

import dataclasses

from nfnets.models.config import ModelConfig

NF_REGNET = ModelConfig(
  name='',
  family='NF_RegNet',
  block_name='nf_block',
  crop_mode='center',
  stochdepth_rate=0.1,
  widths=(48, 104, 208, 440),
  depth=(1, 3, 6, 6),
  width=0.75,
  activation='silu',
  stem='3x3',
  stem_width=48,
  bottleneck_ratio=2.25,
  inverted=True,
  group_size=8,
  pool_shortcut=True,
  se_ratio=0.5,
  final_width=1280,
  head_init=0.0,
)

# Widths before the factor 0.75, depth, drop rate, train and test size (pixels).
_ROWS = {
  'nf_regnet_b0': ((48, 104, 208, 440), (1, 3, 6, 6), 0.2, 192, 224),
  'nf_regnet_b1': ((48, 104, 208, 440), (2, 4, 7, 7), 0.2, 224, 256),
  'nf_regnet_b2': ((56, 112, 232, 488), (2, 4, 8, 8), 0.3, 240, 272),
  'nf_regnet_b3': ((56, 128, 248, 528), (2, 5, 9, 9), 0.3, 288, 320),
  'nf_regnet_b4': ((64, 144, 288, 616), (2, 6, 11, 11), 0.4, 320, 384),
  'nf_regnet_b5': ((80, 168, 336, 704), (3, 7, 14, 14), 0.4, 384, 456),
  'nf_regnet_b6': ((88, 184, 376, 792), (3, 8, 16, 16), 0.5, 448, 528),
  'nf_regnet_b7': ((96, 208, 416, 880), (4, 10, 19, 19), 0.5, 512, 600),
  'nf_regnet_b8': ((104, 232, 456, 968), (4, 11, 22, 22), 0.5, 600, 672),
}


def with_widths(config: ModelConfig, widths: tuple[int, ...]) -> ModelConfig:
  """Returns a network with other widths, and stem and final width to match.

  Args:
    config: the configuration to change.
    widths: width of each stage, before the factor `config.width`.
  """
  return dataclasses.replace(
    config,
    widths=widths,
    stem_width=widths[0],
    final_width=1280 * widths[-1] // 440,
  )


VARIANTS = {
  name: dataclasses.replace(
    with_widths(NF_REGNET, widths),
    name=name,
    depth=depth,
    drop_rate=drop_rate,
    train_size=train_size,
    test_size=test_size,
    crop_pct=test_size / (test_size + 32),
  )
  for name, (widths, depth, drop_rate, train_size, test_size) in _ROWS.items()
}
