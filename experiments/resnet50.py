"""The batch-normalized ResNet-50 baseline on ImageNet, 90 epochs, batch 1024.

  python -m nfnets.experiment --config=experiments/resnet50.py

Meant for 8 to 32 accelerator cores. Published: 78.6% top-1 for a ResNet-50
trained with more augmentation (arXiv 2102.06171, Table 3); no result of this
very recipe is at hand. Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_resnet('resnet50')
