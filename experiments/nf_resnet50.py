"""NF-ResNet-50 on ImageNet, 90 epochs, batch 1024, without clipping.

  python -m nfnets.experiment --config=experiments/nf_resnet50.py

Meant for 8 to 32 accelerator cores. Setting of arXiv 2101.08692, section 4,
as far as its released code states it. The table of results of that paper was
not at hand, so no figure stands here. Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_resnet('nf_resnet50')
