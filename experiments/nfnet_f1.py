"""NFNet-F1 on ImageNet, from scratch: 224 pixels, 360 epochs, batch 4096.

  python -m nfnets.experiment --config=experiments/nfnet_f1.py

Meant for 128 accelerator cores of 16 GB; on fewer devices set
--config.train.accumulation so that the micro-batches fit.
Published: 84.7% top-1 at 320 pixels (arXiv 2102.06171, Table 3; mean of three
seeds) and 158.5 ms a step on TPUv3 cores at 32 images each: 5.0 hours for the
112,602 steps on 128 cores.
Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_nfnet('nfnet_f1')
