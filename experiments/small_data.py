"""Trains from scratch on a few thousand pictures of your own.

  python -m nfnets.experiment --config=experiments/small_data.py
      --config.dataset=folder:/pictures

NFNets overfit small data sets, so this is a narrow F0 with strong augmentation,
dropout and stochastic depth. Skip gains start above 0: at a small learning
rate, clipping would keep them near 0 for most of a short run. If there are
published weights for your task, start from those: see finetune.py.

For smaller pictures, set --config.data.image_size: the size of the evaluation
and the distances of RandAugment follow it.

Meant for one GPU; on a CPU it takes very long.
"""

from nfnets.experiment import config as config_lib


def get_config():
  config = config_lib.base()
  config.dataset = 'folder:'
  config.model.name = 'nfnet_f0'
  config.model.width = 0.5
  config.model.group_size = 32
  config.model.drop_rate = 0.3
  config.model.stochdepth_rate = 0.1
  config.model.skip_gain_init = 0.2
  config.data.image_size = 128
  config.data.eval_split = 'valid'
  # The published preset shows only the center of small images.
  config.data.eval_preset = 'timm'
  config.data.area_range = (0.25, 1.0)
  config.augment.randaugment_layers = 2
  config.augment.randaugment_magnitude = 5
  # The published distances would turn most of a small image gray.
  config.augment.randaugment_relative = True
  config.augment.mixup_alpha = 0.2
  config.augment.cutmix_alpha = 1.0
  config.optimizer.learning_rate = 0.1
  config.optimizer.learning_rate_batch = 0
  config.optimizer.weight_decay = 5e-5
  config.optimizer.clipping = 0.02
  config.train.batch_size = 64
  config.train.epochs = 100.0
  config.train.ema_decay = 0.999
  config.eval.every_epochs = 5.0
  config.checkpoint.every_epochs = 5.0
  config.log.every_steps = 20
  return config
