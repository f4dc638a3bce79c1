"""Pre-training on a large labeled data set of your own, at 224 pixels.

  python -m nfnets.experiment --config=experiments/pretrain.py:nfnet_f4
      --config.dataset=folder:/pictures

Published for 300 million private images: docs/results.md. For NFNets, the
paper advises starting with --config.optimizer.weight_decay=0.
"""

from nfnets.experiment import recipes

# Model -> epochs.
VARIANTS = {'nf_resnet50': 10.0, 'nfnet_f4': 40.0, 'nfnet_f4+': 20.0}


def get_config(variant='nf_resnet50'):
  is_nfnet = variant.startswith('nfnet')
  config = recipes.pretraining(
    variant,
    epochs=VARIANTS[variant],
    batch_size=4096 if is_nfnet else 1024,
    weight_decay=1e-6 if is_nfnet else 1e-5,
  )
  config.dataset = 'folder:'
  return config
