"""The wider NFNet-F0+ to F7+ on ImageNet from scratch.

  python -m nfnets.experiment --config=experiments/nfnet_plus.py:f0

The recipe is that of NFNet-F0 to F7. Published results: docs/results.md.
"""

from nfnets.experiment import recipes

VARIANTS = ('f0', 'f1', 'f2', 'f3', 'f4', 'f5', 'f6', 'f7')


def get_config(variant='f0'):
  return recipes.imagenet_nfnet(f'nfnet_{variant}+')
