"""Fine-tuning pre-trained weights on ImageNet, 15,000 steps of batch 2048.

  python -m nfnets.experiment
      --config=experiments/finetune_imagenet.py:nf_resnet50
      --config.init_from=WEIGHTS

NF-ResNet-50 trains at 224 pixels; for the paper's other sizes, set
--config.data.image_size and --config.data.eval_size to 320 or 384. NFNet-F4
trains at 384 and is tested at 512. Published results: docs/results.md.
"""

from nfnets.experiment import recipes

# Model -> training and test size, in pixels.
VARIANTS = {'nf_resnet50': (224, 224), 'nfnet_f4': (384, 512)}


def get_config(variant='nf_resnet50'):
  config = recipes.fine_tuning(variant)
  config.data.image_size, config.data.eval_size = VARIANTS[variant]
  return config
