"""NFNet-F4 fine-tuned on ImageNet as published.

  python -m nfnets.experiment --config=experiments/finetune_imagenet_nfnet_f4.py
      --config.init_from=WEIGHTS

Recipe of arXiv 2102.06171, appendix A.5: 15,000 steps of batch 2048 with
sharpness-aware minimization (radius 0.05, ascent on 20% of the batch), weight
decay 1e-5, dropout 0.25, stochastic depth 0.1. Meant for 64 or more
accelerator cores. Published: 89.2% top-1 from weights that are not public
(Table 5). Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  config = recipes.fine_tuning('nfnet_f4')
  config.data.image_size = 384
  config.data.eval_size = 512
  return config
