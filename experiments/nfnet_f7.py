"""NFNet-F7 on ImageNet, from scratch: 480 pixels, 360 epochs, batch 4096.

  python -m nfnets.experiment --config=experiments/nfnet_f7.py

Meant for 128 accelerator cores of 16 GB; on fewer devices set
--config.train.accumulation so that the micro-batches fit.
The paper gives no result for F7 on ImageNet; the published code has the model.
Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_nfnet('nfnet_f7')
