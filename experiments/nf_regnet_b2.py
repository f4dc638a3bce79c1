"""NF-RegNet-B2 on ImageNet: 240 pixels, tested at 272, 360 epochs.

  python -m nfnets.experiment --config=experiments/nf_regnet_b2.py

Meant for 32 accelerator cores, batch 1024. Recipe of arXiv 2101.08692 as its
released code states it: MixUp and CutMix, no clipping.
No table of results was at hand, so no figure stands here. Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  return recipes.imagenet_nf_regnet('nf_regnet_b2')
