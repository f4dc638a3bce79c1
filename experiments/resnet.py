"""The batch-normalized baseline on ImageNet: 90 epochs, batch 1024.

  python -m nfnets.experiment --config=experiments/resnet.py:50

Published results and hardware: docs/results.md.
"""

from nfnets.experiment import recipes

VARIANTS = ('50',)


def get_config(variant='50'):
  return recipes.imagenet_resnet(f'resnet{variant}')
