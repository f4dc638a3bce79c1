"""NFNet-F1 on ImageNet from scratch: 224 pixels, 360 epochs, batch 4096.

  python -m nfnets.experiment --config=experiments/nfnet_f1.py

Published results and the hardware they take: docs/results.md.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_nfnet('nfnet_f1')
