"""NFNet-F3 on ImageNet, from scratch: 320 pixels, 360 epochs, batch 4096.

  python -m nfnets.experiment --config=experiments/nfnet_f3.py

Meant for 128 accelerator cores of 16 GB; on fewer devices set
--config.train.accumulation so that the micro-batches fit.
Published: 85.7% top-1 at 416 pixels (arXiv 2102.06171, Table 3; mean of three
seeds) and 532.2 ms a step on TPUv3 cores at 32 images each: 16.6 hours for the
112,602 steps on 128 cores.
Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_nfnet('nfnet_f3')
