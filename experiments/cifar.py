"""CIFAR-10, or other images of 32 pixels: NF-ResNet, batch norm, NFNet.

python -m nfnets.experiment --config=experiments/cifar.py:nf_resnet
"""

from nfnets.experiment import config as config_lib

VARIANTS = ('nf_resnet', 'resnet', 'nfnet')


def get_config(variant='nf_resnet'):
  config = config_lib.base()
  config.dataset = 'cifar10'
  config.model.name = {
    'nf_resnet': 'nf_resnet50',
    'resnet': 'resnet50',
    'nfnet': 'nfnet_f0',
  }[variant]
  # A 3x3 convolution without pooling: the first stage sees all 32 pixels.
  config.model.stem = 'small'
  config.model.stochdepth_rate = 0.0
  config.model.drop_rate = 0.0
  config.data.image_size = 32
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
  config.log.every_steps = 100
  if variant == 'nfnet':
    config.model.width = 0.125
    config.model.depth = (1, 1, 1, 1)
    config.model.group_size = 16
    config.model.skip_gain_init = 0.5
    config.optimizer.clipping = 0.02
    config.train.ema_decay = 0.999
  else:
    config.model.width = 1.0
    config.model.depth = (1, 1, 1, 1)
  return config
