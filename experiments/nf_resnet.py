"""NF-ResNets on ImageNet from scratch: 90 epochs, batch 1024, no clipping.

  python -m nfnets.experiment --config=experiments/nf_resnet.py:50

Published results and hardware: docs/results.md.
"""

from nfnets.experiment import recipes

VARIANTS = ('50', '101', '152', '200')


def get_config(variant='50'):
  return recipes.imagenet_resnet(f'nf_resnet{variant}')
