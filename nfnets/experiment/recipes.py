"""The published recipes, as settings.

References:
  [1] Brock et al., High-Performance Large-Scale Image Recognition Without
    Normalization, arXiv 2102.06171.
  [2] Brock et al., Characterizing signal propagation to close the performance
    gap in unnormalized ResNets, arXiv 2101.08692.
"""

import ml_collections

from nfnets.experiment import config as config_lib

# RandAugment's magnitude by variant; 4 layers throughout ([1] appendix A).
_MAGNITUDE = {0: 5, 1: 10, 2: 10, 3: 15, 4: 15, 5: 15, 6: 15, 7: 15}


def imagenet_nfnet(name: str) -> ml_collections.ConfigDict:
  """The recipe of NFNet-F0 to F7 and F0+ to F7+ ([1] section 4, appendix A).

  Args:
    name: 'nfnet_f0' to 'nfnet_f7', or with a '+'.
  """
  config = config_lib.base()
  config.model.name = name
  config.augment.randaugment_layers = 4
  config.augment.randaugment_magnitude = _MAGNITUDE[
    int(name.removeprefix('nfnet_f').rstrip('+'))
  ]
  config.augment.mixup_alpha = 0.2
  config.augment.cutmix_alpha = 1.0
  config.optimizer.clipping = 0.01
  config.train.ema_decay = 0.99999
  return config


def imagenet_resnet(name: str) -> ml_collections.ConfigDict:
  """The 90-epoch ResNet recipe ([2] section 4; batch 1024, float32)."""
  config = config_lib.base()
  config.model.name = name
  config.data.eval_preset = 'deepmind_crop'
  config.train.batch_size = 1024
  config.train.epochs = 90.0
  config.train.dtype = 'float32'
  config.optimizer.weight_decay = 1e-4
  return config


# Weight decay by variant as published for B0 to B5; B6 to B8 have none in the
# released settings and go on with B5's.
_REGNET_DECAY = (5e-5, 6e-5, 7e-5, 8e-5, 9e-5, 1e-4, 1e-4, 1e-4, 1e-4)


def imagenet_nf_regnet(name: str) -> ml_collections.ConfigDict:
  """The NF-RegNet recipe ([2] section 4): 360 epochs, no AGC, float32."""
  config = imagenet_resnet(name)
  config.train.epochs = 360.0
  config.train.ema_decay = 0.99999
  config.augment.mixup_alpha = 0.2
  config.augment.cutmix_alpha = 1.0
  config.augment.augment_before_mix = True
  config.optimizer.learning_rate = 0.4
  config.optimizer.learning_rate_batch = 0
  config.optimizer.final_learning_rate = 0.001
  config.optimizer.weight_decay = _REGNET_DECAY[int(name[-1])]
  return config


def pretraining(
  name: str, *, epochs: float, batch_size: int, weight_decay: float
) -> ml_collections.ConfigDict:
  """Pre-training on hundreds of millions of images ([1] appendix A.5).

  Crops and flips only, 224 pixels for every model, no average of the
  parameters, no label smoothing stated and so none here.

  Args:
    name: the model.
    epochs: 40 for F4, 20 for F4+, 10 for ResNets.
    batch_size: 4096 for NFNets, 1024 for ResNets.
    weight_decay: 1e-6 for NFNets, 1e-5 for ResNets.
  """
  config = config_lib.base()
  config.model.name = name
  config.data.image_size = 224
  config.data.eval_size = 224
  config.train.batch_size = batch_size
  config.train.epochs = epochs
  config.train.label_smoothing = 0.0
  config.optimizer.warmup_steps = 5_000
  config.optimizer.weight_decay = weight_decay
  if name.startswith('nfnet'):
    config.optimizer.clipping = 0.01
  return config


def fine_tuning(name: str) -> ml_collections.ConfigDict:
  """Fine-tuning on ImageNet for 15,000 steps ([1] appendix A.5).

  All layers train, at a peak learning rate of 0.1 that does not grow with the
  batch. ResNets do without weight decay, dropout and stochastic depth; NFNets
  have them and sharpness-aware minimization.

  Args:
    name: the model.
  """
  config = config_lib.base()
  config.model.name = name
  config.train.batch_size = 2048
  config.train.steps = 15_000
  config.train.ema_decay = 0.9999
  config.optimizer.learning_rate_batch = 0
  config.optimizer.warmup_steps = 5_000
  if name.startswith('nfnet'):
    config.train.sam_rho = 0.05
    config.optimizer.clipping = 0.01
    config.optimizer.weight_decay = 1e-5
    config.model.drop_rate = 0.25
    config.model.stochdepth_rate = 0.1
  else:
    config.train.dtype = 'float32'
    config.optimizer.weight_decay = 0.0
    config.model.drop_rate = 0.0
    config.model.stochdepth_rate = 0.0
  return config
