"""NFNet-F6 on ImageNet, from scratch: 448 pixels, 360 epochs, batch 4096.

  python -m nfnets.experiment --config=experiments/nfnet_f6.py

Meant for 128 accelerator cores of 16 GB; on fewer devices set
--config.train.accumulation so that the micro-batches fit.
Published: 86.5% top-1 at 576 pixels, with SAM (arXiv 2102.06171, Table 3): see
nfnet_f6_sam.py. No result without SAM is published.
Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_nfnet('nfnet_f6')
