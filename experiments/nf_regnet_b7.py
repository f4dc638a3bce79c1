"""NF-RegNet-B7 on ImageNet: 512 pixels, tested at 600, 360 epochs.

  python -m nfnets.experiment --config=experiments/nf_regnet_b7.py

Meant for 32 accelerator cores, batch 1024. Recipe of arXiv 2101.08692 as its
released code states it: MixUp and CutMix, no clipping.
The released settings name no weight decay for this size: B5's is used.
No table of results was at hand, so no figure stands here. Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_nf_regnet('nf_regnet_b7')
