"""NFNet-F6 on ImageNet with sharpness-aware minimization.

  python -m nfnets.experiment --config=experiments/nfnet_f6_sam.py

The ascent sees 20% of each device's batch and is not synchronised between
devices (arXiv 2102.06171, appendix A.4). Its radius is the 0.05 that the paper
states for fine-tuning; for training from scratch it names none.
Published: 86.5% top-1 at 576 pixels and 2774.1 ms a step on TPUv3 cores at 32
images each (Table 3): 87 hours for the 112,602 steps on 128 cores.
Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  config = recipes.imagenet_nfnet('nfnet_f6')
  config.train.sam_rho = 0.05
  config.train.sam_share = 0.2
  return config
