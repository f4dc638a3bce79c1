"""NFNet-F4 on ImageNet, from scratch: 384 pixels, 360 epochs, batch 4096.

  python -m nfnets.experiment --config=experiments/nfnet_f4.py

Meant for 128 accelerator cores of 16 GB; on fewer devices set
--config.train.accumulation so that the micro-batches fit.
Published: 85.9% top-1 at 512 pixels (arXiv 2102.06171, Table 3; mean of three
seeds) and 1033.3 ms a step on TPUv3 cores at 32 images each: 32.3 hours for the
112,602 steps on 128 cores.
Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_nfnet('nfnet_f4')
