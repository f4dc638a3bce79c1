"""NFNet-F7 on ImageNet from scratch: 480 pixels, 360 epochs, batch 4096.

  python -m nfnets.experiment --config=experiments/nfnet_f7.py

Published results and the hardware they take: docs/results.md.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_nfnet('nfnet_f7')
