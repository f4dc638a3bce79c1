"""Trains from scratch on a few thousand pictures of your own.

  python -m nfnets.experiment --config=experiments/small_data.py
      --config.dataset=folder:/pictures
  python -m nfnets.experiment --config=experiments/small_data.py:gpu
      --config.dataset=folder:/pictures

The variant laptop (the default) trains a quarter-width F0 with five blocks on
pictures of 64 pixels: 4,000 of them take 10 minutes on 2 cores, and 2 GiB
(docs/pictures.md). gpu trains a half-width F0 on pictures of 128 pixels with
stronger augmentation, which takes very long on a CPU.

NFNets overfit small data sets, so both have augmentation and dropout. Skip
gains start above 0: at a small learning rate, clipping would keep them near 0
for most of a short run. If there are published weights for your task, start
from those: see finetune.py.

For pictures of another size, set --config.data.image_size: the size of the
evaluation and the distances of RandAugment follow it.
"""

from nfnets.experiment import config as config_lib

VARIANTS = ('laptop', 'gpu')


def get_config(variant='laptop'):
  config = config_lib.base()
  config.dataset = 'folder:'
  config.model.name = 'nfnet_f0'
  config.model.group_size = 32
  config.model.stochdepth_rate = 0.1
  config.data.eval_split = 'valid'
  # The published preset shows only the center of small images.
  config.data.eval_preset = 'timm'
  config.augment.randaugment_magnitude = 5
  # The published distances would turn most of a small image gray.
  config.augment.randaugment_relative = True
  config.optimizer.learning_rate = 0.1
  config.optimizer.learning_rate_batch = 0
  config.optimizer.clipping = 0.02
  config.train.batch_size = 64
  config.log.every_steps = 20
  if variant == 'laptop':
    _set_laptop(config)
  else:
    _set_gpu(config)
  return config


def _set_laptop(config):
  # F0's own stem has more than half of the operations.
  config.model.stem = '3x3'
  config.model.depth = (1, 1, 2, 1)
  config.model.width = 0.25
  config.model.drop_rate = 0.2
  config.model.skip_gain_init = 0.5
  config.data.image_size = 64
  # At 64 pixels throughout, an epoch would take half as long again on average.
  config.data.progressive_size = 32
  config.data.area_range = (0.35, 1.0)
  config.augment.randaugment_layers = 1
  config.augment.mixup_alpha = 0.0
  config.augment.cutmix_alpha = 0.0
  config.optimizer.warmup_epochs = 2.0
  config.optimizer.weight_decay = 5e-4
  config.train.dtype = 'float32'
  config.train.epochs = 90.0
  config.train.ema_decay = 0.998
  config.eval.every_epochs = 10.0
  config.checkpoint.every_epochs = 10.0


def _set_gpu(config):
  config.model.width = 0.5
  config.model.drop_rate = 0.3
  config.model.skip_gain_init = 0.2
  config.data.image_size = 128
  config.data.area_range = (0.25, 1.0)
  config.augment.randaugment_layers = 2
  config.augment.mixup_alpha = 0.2
  config.augment.cutmix_alpha = 1.0
  config.optimizer.weight_decay = 5e-5
  config.train.epochs = 100.0
  config.train.ema_decay = 0.999
  config.eval.every_epochs = 5.0
  config.checkpoint.every_epochs = 5.0
