"""Networks of timm that are not in the papers, as tables of configurations.

They share the architecture of the published families. The configuration
expresses the differences: symmetric padding, an additive epsilon, gamma in the
weights, channels in multiples of eight, no skip gains (instead, the gains of
each branch's last convolution start at zero) and, in the ResNets, a pooled
shortcut. Stochastic depth follows the published networks, not timm.
"""

import dataclasses

from nfnets.models import nf_regnet, nf_resnet, nfnet
from nfnets.models.config import ModelConfig

PREFIX = 'timm_'
"""Start of our name for a network whose name in timm is already taken."""


def _with_timm_conventions(config: ModelConfig) -> ModelConfig:
  return dataclasses.replace(
    config,
    crop_pct=0.9,
    crop_mode='center',
    drop_rate=0.0,
    stochdepth_rate=0.0,
    channel_divisor=8,
    se_divisor=8,
    pool_shortcut=True,
    head_init=0.01,
    skip_gain=False,
    gamma_in_weights=True,
    padding='symmetric',
    ws_epsilon='additive',
  )


_NFNET = dataclasses.replace(
  _with_timm_conventions(nfnet.VARIANTS['nfnet_f0']),
  crop_pct=1.0,
  activation='silu',
  bottleneck_ratio=0.25,
  group_size=64,
  se_ratio=0.25,
)
_REGNET = _with_timm_conventions(nf_regnet.NF_REGNET)
_RESNET = _with_timm_conventions(nf_resnet.NF_RESNET)


def _with_eca(config: ModelConfig) -> ModelConfig:
  return dataclasses.replace(config, se_ratio=0.0, eca=True)


# Name, depth, training and test size (pixels).
_ECA_NFNETS = (
  ('eca_nfnet_l1', (2, 4, 12, 6), 256, 320),
  ('eca_nfnet_l2', (3, 6, 18, 9), 320, 384),
  ('eca_nfnet_l3', (4, 8, 24, 12), 352, 448),
)

# Training and test size (pixels); widths and depths are the published ones.
_REGNETS = {
  'nf_regnet_b0': (192, 256),
  'nf_regnet_b1': (256, 288),
  'nf_regnet_b2': (240, 272),
  'nf_regnet_b3': (288, 320),
  'nf_regnet_b4': (320, 384),
  'nf_regnet_b5': (384, 456),
}

_RESNETS = {
  'nf_resnet': _RESNET,
  'nf_seresnet': dataclasses.replace(_RESNET, se_ratio=1 / 16),
  'nf_ecaresnet': _with_eca(_RESNET),
}
_RESNET_DEPTHS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def _nfnets() -> list[ModelConfig]:
  l0 = dataclasses.replace(
    _NFNET, name='nfnet_l0', train_size=224, test_size=288, final_width=2304
  )
  variants = [l0, dataclasses.replace(_with_eca(l0), name='eca_nfnet_l0')]
  variants += [
    dataclasses.replace(
      _with_eca(_NFNET),
      name=name,
      depth=depth,
      train_size=train_size,
      test_size=test_size,
    )
    for name, depth, train_size, test_size in _ECA_NFNETS
  ]
  # timm's small network for tests. Its stem is as wide as F0's.
  test = dataclasses.replace(
    _NFNET,
    name='test_nfnet',
    widths=(32, 64, 96, 128),
    depth=(1, 1, 1, 1),
    group_size=8,
    final_width=192,
    train_size=160,
    test_size=160,
    crop_pct=0.95,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
  )
  return [*variants, test]


def _regnets() -> list[ModelConfig]:
  return [
    dataclasses.replace(
      nf_regnet.with_widths(_REGNET, nf_regnet.VARIANTS[name].widths),
      name=f'{PREFIX}{name}',
      depth=nf_regnet.VARIANTS[name].depth,
      train_size=train_size,
      test_size=test_size,
    )
    for name, (train_size, test_size) in _REGNETS.items()
  ]


def _resnets() -> list[ModelConfig]:
  variants = [
    dataclasses.replace(
      config, name=f'{PREFIX}{prefix}{layers}', depth=_RESNET_DEPTHS[layers]
    )
    for prefix, config in _RESNETS.items()
    for layers in _RESNET_DEPTHS
  ]
  # The only one with published weights; timm trained it at larger sizes.
  return [
    dataclasses.replace(config, train_size=256, test_size=288, crop_pct=0.94)
    if config.name == f'{PREFIX}nf_resnet50'
    else config
    for config in variants
  ]


VARIANTS = {
  config.name: config for config in (*_nfnets(), *_regnets(), *_resnets())
}
