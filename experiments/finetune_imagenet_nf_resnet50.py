"""NF-ResNet-50 fine-tuned on ImageNet as published, at 224 pixels.

  python -m nfnets.experiment
      --config=experiments/finetune_imagenet_nf_resnet50.py
      --config.init_from=WEIGHTS

Recipe of arXiv 2102.06171, appendix A.5: 15,000 steps of batch 2048, no weight
decay, dropout or stochastic depth. Set --config.data.image_size and eval_size
to 320 or 384 for the other columns of Table 4. Meant for 32 or more
accelerator cores. Published: 79.5% top-1 at 224 pixels, 80.9% at 320, 81.1% at
384, from weights that are not public. Not trained here.
"""

from nfnets.experiment import recipes


def get_config():
  config = recipes.fine_tuning('nf_resnet50')
  config.data.image_size = 224
  config.data.eval_size = 224
  return config
