"""NFNet-F1+ (wider) on ImageNet, from scratch: 224 pixels, 360 epochs.

  python -m nfnets.experiment --config=experiments/nfnet_f1plus.py

Meant for 128 accelerator cores of 16 GB or more; on fewer devices set
--config.train.accumulation so that the micro-batches fit.
Nothing is published for this model from scratch; the recipe is that of
NFNet-F1.
Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_nfnet('nfnet_f1+')
