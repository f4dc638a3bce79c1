"""The published recipes, as settings.

References:
  Brock et al, `High-Performance Large-Scale Image Recognition Without
  Normalization <https://arxiv.org/abs/2102.06171>`_, 2021.

  Brock et al, `Characterizing signal propagation to close the
  performance gap in unnormalized ResNets
  <https://arxiv.org/abs/2101.08692>`_, 2021.
"""

import ml_collections

from nfnets.experiment import config as config_lib

# RandAugment's magnitude for F0 to F7; all have 4 layers (2102.06171,
# appendix A).
_MAGNITUDE = (5, 10, 10, 15, 15, 15, 15, 15)
# Weight decay for B0 to B8. The released settings have none for B6 to B8, which
# get that of B5 here.
_REGNET_DECAY = (5e-5, 6e-5, 7e-5, 8e-5, 9e-5, 1e-4, 1e-4, 1e-4, 1e-4)


def imagenet_nfnet(name: str) -> ml_collections.ConfigDict:
  """Returns the recipe of NFNets on ImageNet.

  Source: arXiv 2102.06171, section 4 and appendix A.

  Args:
    name: 'nfnet_f0' to 'nfnet_f7' or 'nfnet_f0+' to 'nfnet_f7+'.
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


def imagenet_nfnet_sam(name: str) -> ml_collections.ConfigDict:
  """Returns `imagenet_nfnet` with sharpness-aware minimization.

  The ascent sees 20% of each device's batch and is not synchronized between
  devices (arXiv 2102.06171, appendix A.4). Its radius of 0.05 is the one that
  the paper states for fine-tuning; it states none for training from scratch.

  Args:
    name: as in `imagenet_nfnet`.
  """
  config = imagenet_nfnet(name)
  config.train.sam_rho = 0.05
  config.train.sam_share = 0.2
  return config


def imagenet_resnet(name: str) -> ml_collections.ConfigDict:
  """Returns the recipe of ResNets on ImageNet: 90 epochs, batch 1024.

  Float32, no clipping. Source: arXiv 2101.08692, section 4, as far as the
  released code specifies it.

  Args:
    name: a ResNet or NF-ResNet, such as 'nf_resnet50'.
  """
  config = config_lib.base()
  config.model.name = name
  config.data.eval_preset = 'deepmind_crop'
  config.train.batch_size = 1024
  config.train.epochs = 90.0
  config.train.dtype = 'float32'
  config.optimizer.weight_decay = 1e-4
  return config


def imagenet_resnet_agc(name: str) -> ml_collections.ConfigDict:
  """Returns `imagenet_resnet` with adaptive gradient clipping, batch 4096.

  Clipping lets the learning rate grow with the batch (arXiv 2102.06171, section
  4.1). The threshold of 0.01 is for batch 4096; smaller batches allow larger
  ones, up to 0.16 at 256.

  Args:
    name: an NF-ResNet, such as 'nf_resnet50'.
  """
  config = imagenet_resnet(name)
  config.train.batch_size = 4096
  config.optimizer.clipping = 0.01
  return config


def imagenet_nf_regnet(name: str) -> ml_collections.ConfigDict:
  """Returns the recipe of NF-RegNets on ImageNet: 360 epochs, batch 1024.

  MixUp and CutMix, float32, no clipping. Source: arXiv 2101.08692, section 4,
  as the released code specifies it.

  Args:
    name: 'nf_regnet_b0' to 'nf_regnet_b8'.
  """
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
  """Returns the recipe of pre-training on a large data set.

  Published for 300 million images: random crops of 224 pixels and flips, no
  moving average of the weights. The paper states no label smoothing, so there
  is none. Source: arXiv 2102.06171, appendix A.5.

  Args:
    name: the model's name.
    epochs: length of the run: 40 for F4, 20 for F4+, 10 for ResNets.
    batch_size: images per step: 4096 for NFNets, 1024 for ResNets.
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
  """Returns the recipe of fine-tuning on ImageNet, 15,000 steps of batch 2048.

  All layers train, at a peak learning rate of 0.1 that does not grow with the
  batch. ResNets have no weight decay, dropout or stochastic depth; NFNets have
  all three and sharpness-aware minimization. Source: arXiv 2102.06171, appendix
  A.5.

  Args:
    name: the model's name.
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
