"""NF-RegNets on ImageNet from scratch: 360 epochs, batch 1024.

  python -m nfnets.experiment --config=experiments/nf_regnet.py:b0

MixUp and CutMix, no clipping. Image sizes and hardware: docs/results.md.
"""

from nfnets.experiment import recipes

VARIANTS = ('b0', 'b1', 'b2', 'b3', 'b4', 'b5', 'b6', 'b7', 'b8')


def get_config(variant='b0'):
  return recipes.imagenet_nf_regnet(f'nf_regnet_{variant}')
