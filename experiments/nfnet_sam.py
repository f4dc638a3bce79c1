"""NFNets on ImageNet from scratch with sharpness-aware minimization.

  python -m nfnets.experiment --config=experiments/nfnet_sam.py:f5

Published results: docs/results.md.
"""

from nfnets.experiment import recipes

VARIANTS = ('f5', 'f6')


def get_config(variant='f5'):
  return recipes.imagenet_nfnet_sam(f'nfnet_{variant}')
