"""NF-ResNet-152 on ImageNet with adaptive gradient clipping, batch 4096.

  python -m nfnets.experiment --config=experiments/nf_resnet152_agc.py

Meant for 32 to 128 accelerator cores. Clipping lets the learning rate grow
with the batch (arXiv 2102.06171, section 4.1): 0.01 at batch 4096; smaller
batches do with larger values, up to 0.16 at 256. Accuracy is published as a
figure only, level with batch normalization's. Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  config = recipes.imagenet_resnet('nf_resnet152')
  config.train.batch_size = 4096
  config.optimizer.clipping = 0.01
  return config
