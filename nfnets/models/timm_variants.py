"""The networks of timm that the papers do not have, as rows of tables.

Their architecture is that of the published families. What differs is in the
config: symmetric padding, an epsilon that is added, gamma in the weights,
channels in multiples of eight, no skip gains (the last gains of each branch
start at zero instead) and, in the ResNets, a pooled shortcut. Stochastic depth
is ours, the published one.

timm's nets of a published name carry the prefix timm_ here.
"""

import dataclasses
from typing import Any

from nfnets.models import nf_regnet, nf_resnet, nfnet
from nfnets.models.config import ModelConfig

_SE_RATIO = 1 / 16  # of the ResNets


def _by_timms_conventions(config: ModelConfig) -> ModelConfig:
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
  _by_timms_conventions(nfnet.VARIANTS['nfnet_f0']),
  activation='silu',
  bottleneck_ratio=0.25,
  group_size=64,
  se_ratio=0.25,
)
_REGNET = _by_timms_conventions(nf_regnet.NF_REGNET)
_RESNET = _by_timms_conventions(nf_resnet.NF_RESNET)

_ECA = {'se_ratio': 0.0, 'eca': True}
_HALF = (0.5, 0.5, 0.5)

# What differs from the light NFNet with F0's depth.
_NFNETS: dict[str, dict[str, Any]] = {
  'nfnet_l0': {
    'train_size': 224,
    'test_size': 288,
    'crop_pct': 1.0,
    'final_width': 2304,
  },
  'eca_nfnet_l0': {
    'train_size': 224,
    'test_size': 288,
    'crop_pct': 1.0,
    'final_width': 2304,
    **_ECA,
  },
  'eca_nfnet_l1': {
    'depth': (2, 4, 12, 6),
    'train_size': 256,
    'test_size': 320,
    'crop_pct': 1.0,
    **_ECA,
  },
  'eca_nfnet_l2': {
    'depth': (3, 6, 18, 9),
    'train_size': 320,
    'test_size': 384,
    'crop_pct': 1.0,
    **_ECA,
  },
  'eca_nfnet_l3': {
    'depth': (4, 8, 24, 12),
    'train_size': 352,
    'test_size': 448,
    'crop_pct': 1.0,
    **_ECA,
  },
  # For tests: a twelfth of the channels, but the stem is F0's.
  'test_nfnet': {
    'widths': (32, 64, 96, 128),
    'depth': (1, 1, 1, 1),
    'group_size': 8,
    'final_width': 192,
    'train_size': 160,
    'test_size': 160,
    'crop_pct': 0.95,
    'mean': _HALF,
    'std': _HALF,
  },
}

# Train and test size in pixels; widths and depth are the published ones.
_REGNETS = {
  'nf_regnet_b0': (192, 256),
  'nf_regnet_b1': (256, 288),
  'nf_regnet_b2': (240, 272),
  'nf_regnet_b3': (288, 320),
  'nf_regnet_b4': (320, 384),
  'nf_regnet_b5': (384, 456),
}

_RESNET_DEPTHS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_RESNET_ATTENTION: dict[str, dict[str, Any]] = {
  'nf_resnet': {},
  'nf_seresnet': {'se_ratio': _SE_RATIO},
  'nf_ecaresnet': _ECA,
}
# The one that timm has weights for was trained at larger sizes.
_RESNET50: dict[str, Any] = {
  'train_size': 256,
  'test_size': 288,
  'crop_pct': 0.94,
}


def _variants() -> dict[str, ModelConfig]:
  variants = {
    name: dataclasses.replace(_NFNET, name=name, **changes)
    for name, changes in _NFNETS.items()
  }
  for row, (train_size, test_size) in _REGNETS.items():
    published = nf_regnet.VARIANTS[row]
    name = f'timm_{row}'
    variants[name] = dataclasses.replace(
      nf_regnet.with_widths(_REGNET, published.widths),
      name=name,
      depth=published.depth,
      train_size=train_size,
      test_size=test_size,
    )
  for prefix, attention in _RESNET_ATTENTION.items():
    for layers, depth in _RESNET_DEPTHS.items():
      name = f'timm_{prefix}{layers}'
      variants[name] = dataclasses.replace(
        _RESNET, name=name, depth=depth, **attention
      )
  name = 'timm_nf_resnet50'
  variants[name] = dataclasses.replace(variants[name], **_RESNET50)
  return variants


VARIANTS = _variants()
