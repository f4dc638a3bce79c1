"""NFNet-F5+ (wider) on ImageNet, from scratch: 416 pixels, 360 epochs.

  python -m nfnets.experiment --config=experiments/nfnet_f5plus.py

Meant for 128 accelerator cores of 16 GB or more; on fewer devices set
--config.train.accumulation so that the micro-batches fit.
Nothing is published for this model from scratch; the recipe is that of
NFNet-F5.
Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_nfnet('nfnet_f5+')
