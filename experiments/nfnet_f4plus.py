"""NFNet-F4+ (wider) on ImageNet, from scratch: 384 pixels, 360 epochs.

  python -m nfnets.experiment --config=experiments/nfnet_f4plus.py

Meant for 128 accelerator cores of 16 GB or more; on fewer devices set
--config.train.accumulation so that the micro-batches fit.
Published: 89.2% top-1 after pre-training on 300 million other images
(arXiv 2102.06171, Table 5): see pretrain_nfnet.py. From scratch: nothing.
Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_nfnet('nfnet_f4+')
