"""CIFAR-10 from scratch: an NF-ResNet, batch normalization, or an NFNet.

  python -m nfnets.experiment --config=experiments/cifar.py:nf_resnet
  python -m nfnets.experiment --config=experiments/cifar.py:resnet
      --config.dataset=folder:/cifar10

The data set is TFDS's cifar10, or a folder with train/CLASS and test/CLASS. The
variants are nf_resnet, resnet (the same network with batch normalization) and
nfnet (a narrow F0). Each has four blocks, about half a million parameters or
less, and a stem that keeps the 32 pixels.

Measured on a folder, with --config.optimizer.warmup_epochs=0.1 and the given
--config.train.epochs, on 2 cores of a shared x86-64 AMD EPYC, 2026-11-27 (the
whole run of 30 epochs was not measured):

  resnet, 1 epoch: 55.0%
  nf_resnet, 1/2 epoch: 43.0%; with model.skip_gain_init=0, 1 epoch: 43.0%
  nfnet, 1/2 epoch: 40.8%; with model.skip_gain_init=0: 37.3%
    (--config.train.ema_decay=0)
"""

from nfnets.experiment import config as config_lib

VARIANTS = ('nf_resnet', 'resnet', 'nfnet')


def get_config(variant='nf_resnet'):
  config = config_lib.base()
  config.dataset = 'cifar10'
  config.model.stem = 'small'
  config.model.depth = (1, 1, 1, 1)
  config.model.drop_rate = 0.0
  config.model.stochdepth_rate = 0.0
  config.data.image_size = 32
  # The published preset shows only the center of small images.
  config.data.eval_preset = 'timm'
  config.data.area_range = (0.4, 1.0)
  config.optimizer.learning_rate = 0.1
  config.optimizer.learning_rate_batch = 128
  config.optimizer.warmup_epochs = 1.0
  config.optimizer.weight_decay = 5e-4
  config.train.batch_size = 128
  config.train.epochs = 30.0
  config.train.dtype = 'float32'
  config.train.label_smoothing = 0.0
  if variant == 'nfnet':
    config.model.name = 'nfnet_f0'
    config.model.width = 0.125
    config.model.group_size = 16
    # Skip gains that start at 0 would stay near 0: clipping limits each step
    # to a fraction of their size.
    config.model.skip_gain_init = 0.5
    config.optimizer.clipping = 0.02
    config.train.ema_decay = 0.999
  else:
    config.model.name = f'{variant}50'
    config.model.width = 1.0
  if variant == 'nf_resnet':
    # At 0, the first epoch brings no more than half of one does at 1.
    config.model.skip_gain_init = 1.0
  return config
