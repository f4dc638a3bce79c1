"""NF-ResNets on ImageNet with adaptive gradient clipping, batch 4096.

  python -m nfnets.experiment --config=experiments/nf_resnet_agc.py:50

Published results and hardware: docs/results.md.
"""

from nfnets.experiment import recipes

VARIANTS = ('50', '101', '152', '200')


def get_config(variant='50'):
  return recipes.imagenet_resnet_agc(f'nf_resnet{variant}')
