"""Every setting of an experiment, its default and its checks.

A file in `experiments/` starts from `base()` or a published recipe
(`recipes.py`), changes some settings and returns the result. Only
`nfnets.experiment` reads these settings; the rest of the package takes plain
arguments.
"""

from typing import Any

import ml_collections
from ml_collections import config_dict

from nfnets import errors, files
from nfnets.data import presets, sources

# Settings that may change when a run is resumed: they do not affect training.
RESUMABLE = (
  'checkpoint',
  'eval',
  'log',
  'data.data_dir',
  'data.num_threads',
  'data.num_workers',
)


def base() -> ml_collections.ConfigDict:
  """Returns every setting: NFNet-F0 on ImageNet, only cropped and flipped."""
  return ml_collections.ConfigDict(
    {
      'seed': 0,  # random seed of the run, 0 to 2**64 - 1
      'dataset': 'imagenet2012',  # 'digits', 'folder:/path' or a TFDS name
      'init_from': '',  # weights to fine-tune: a file or a hub id; '': none
      'freeze': False,  # train only the classifier
      'model': _model(),
      'data': _data(),
      'augment': _augment(),
      'optimizer': _optimizer(),
      'train': _train(),
      'eval': {
        'every_epochs': 1.0,  # epochs between evaluations
        'every_steps': 0,  # steps; if not 0, replaces every_epochs
        'batch_size': 0,  # images, over all devices; 0: as in training
      },
      'checkpoint': {
        'every_epochs': 1.0,  # epochs between checkpoints
        'every_steps': 0,  # steps; if not 0, replaces every_epochs
        'keep': 3,  # number of latest checkpoints to keep, plus the best one
      },
      'log': {
        'every_steps': 100,  # steps between lines of training metrics
      },
    }
  )


def _model() -> dict[str, Any]:
  # One call per setting: a shared placeholder would be a single value.
  placeholder = config_dict.placeholder
  return {
    'name': 'nfnet_f0',  # python -m nfnets.models lists all names
    # None: the value in the model's own table.
    'width': placeholder(float),  # factor on the channels of every stage
    'depth': placeholder(tuple),  # blocks in each stage
    'group_size': placeholder(int),  # channels per group of 3x3 convolutions
    'se_ratio': placeholder(float),  # hidden / input channels, squeeze-excite
    'drop_rate': placeholder(float),  # dropout before the classifier
    'stochdepth_rate': placeholder(float),  # rises with depth up to this
    'activation': placeholder(str),  # 'gelu', 'relu', 'silu', ...
    'alpha': placeholder(float),  # factor on each residual branch
    'skip_gain_init': placeholder(float),  # initial value of the skip gains
    'remat': False,  # recompute each block in the backward pass
  }


def _data() -> dict[str, Any]:
  return {
    'data_dir': '',  # folder of prepared data sets; '': the default of TFDS
    'train_split': 'train',  # 'train', 'valid', 'test'; folders also 'all'
    'eval_split': 'test',  # likewise
    'image_size': 0,  # pixels; 0: the model's training size
    'eval_size': 0,  # pixels; 0: in the model's proportion to image_size
    'eval_preset': 'deepmind',  # see nfnets/data/presets.py
    'area_range': (0.08, 1.0),  # crop area / image area
    'aspect_range': (3 / 4, 4 / 3),  # crop width / crop height
    'num_threads': 0,  # decoding threads; 0: one per available core
    'num_workers': 0,  # worker processes; 0: threads only
    'scaled_decoding': False,  # faster for large JPEGs; pixels differ slightly
    'strict': False,  # stop at the first unreadable image
    'max_unreadable_share': 0.05,  # fraction of images; above it, stop
    'max_pixels': 100_000_000,  # height * width; larger images are unreadable
  }


def _augment() -> dict[str, Any]:
  return {
    'flip': True,  # mirror half of the images horizontally
    'randaugment_layers': 0,  # operations per image; 0: off
    'randaugment_magnitude': 0,  # level of each operation; 10 is strong
    'randaugment_relative': False,  # distances scale with the image size
    'mixup_alpha': 0.0,  # parameter of the Beta distribution; 0: off
    'cutmix_alpha': 0.0,  # parameter of the Beta distribution; 0: off
    'augment_before_mix': False,  # RandAugment first, then MixUp and CutMix
    'reference_quirks': False,  # RandAugment exactly as in the published code
  }


def _optimizer() -> dict[str, Any]:
  return {
    # Peak = learning_rate * batch_size / learning_rate_batch, or learning_rate
    # itself if learning_rate_batch is 0.
    'learning_rate': 0.1,
    'learning_rate_batch': 256,  # images
    'final_learning_rate': 0.0,  # at the last step
    'warmup_epochs': 5.0,  # epochs of linear warm-up
    'warmup_steps': 0,  # steps; if not 0, replaces warmup_epochs
    'momentum': 0.9,  # decay of the momentum buffer, per step
    'nesterov': True,  # Nesterov's momentum; False: classical momentum
    'weight_decay': 2e-5,  # on weights only, not on gains and biases
    'clipping': 0.0,  # AGC's lambda; 0: no clipping
    'clip_eps': 1e-3,  # AGC's lower bound on the norm of a unit's weights
  }


def _train() -> dict[str, Any]:
  return {
    'batch_size': 4096,  # augmented images per step, over all devices
    'epochs': 360.0,  # length of the run
    'steps': 0,  # steps; if not 0, replaces epochs
    'label_smoothing': 0.1,  # fraction of each label spread over all classes
    'ema_decay': 0.0,  # per step, of the averaged weights; 0: no average
    'dtype': 'bfloat16',  # of the forward and backward pass; or 'float32'
    'accumulation': 1,  # micro-batches per step
    'sam_rho': 0.0,  # radius of sharpness-aware minimization; 0: off
    'sam_share': 0.2,  # fraction of the batch that SAM's ascent sees
  }


def steps(
  section: ml_collections.ConfigDict,
  prefix: str,
  examples: int,
  batch_size: int,
) -> int:
  """Returns a length in steps.

  This is the only place that turns epochs into steps. In one epoch, the train
  step sees as many augmented images as the data set has images.

  Args:
    section: the settings that hold '<prefix>steps' and '<prefix>epochs'.
    prefix: such as 'warmup_'.
    examples: number of images in the data set.
    batch_size: number of augmented images per step.

  Returns:
    '<prefix>steps' or, if that is 0, '<prefix>epochs' in steps, rounded down.
  """
  if section[f'{prefix}steps']:
    return section[f'{prefix}steps']
  return int(section[f'{prefix}epochs'] * examples / batch_size)


_POSITIVE = (
  'train.batch_size',
  'train.accumulation',
  'data.max_pixels',
  'eval.every_epochs',
  'checkpoint.every_epochs',
  'checkpoint.keep',
  'log.every_steps',
  'optimizer.clip_eps',
)
_NOT_NEGATIVE = (
  'train.epochs',
  'optimizer.warmup_epochs',
  'optimizer.weight_decay',
  'optimizer.learning_rate',
  'optimizer.final_learning_rate',
  'augment.mixup_alpha',
  'augment.cutmix_alpha',
  'augment.randaugment_layers',
  'augment.randaugment_magnitude',
  'data.num_workers',
  'eval.batch_size',
)
_FRACTION = (
  'optimizer.momentum',
  'train.label_smoothing',
  'train.ema_decay',
  'data.max_unreadable_share',
)
_CHOICES = {
  'train.dtype': ('float32', 'bfloat16'),
  'data.eval_preset': presets.EVAL_PRESETS,
}


def check(config: ml_collections.ConfigDict) -> None:
  """Checks the settings as far as possible without model and data set.

  Raises:
    UserError: a setting has a wrong value. The message contains the key, the
      value and the allowed values.
  """
  flat = flatten(config)

  def require(key: str, holds: bool, what: str) -> None:
    if not holds:
      raise errors.UserError(
        f'config.{key} is {flat[key]!r}: it must be {what}'
      )

  for key in _POSITIVE:
    require(key, flat[key] > 0, 'above 0')
  for key in _NOT_NEGATIVE:
    require(key, flat[key] >= 0, '0 or above')
  for key in _FRACTION:
    require(key, 0 <= flat[key] < 1, 'at least 0 and below 1')
  for key, choices in _CHOICES.items():
    require(key, flat[key] in choices, 'one of ' + ', '.join(choices))
  require(
    'dataset',
    flat['dataset'] not in ('', 'folder:'),
    "a data set's name or folder:/path, such as"
    ' --config.dataset=folder:/pictures',
  )
  share = flat['train.sam_share']
  require('train.sam_share', 0 < share <= 1, 'above 0 and at most 1')
  low, high = flat['data.area_range']
  require('data.area_range', 0 < low <= high <= 1, '0 < low <= high <= 1')
  sources.check_paths(flat['dataset'], flat['data.data_dir'])
  if flat['init_from']:
    files.user_path(flat['init_from'], 'config.init_from')


def flatten(config: Any, prefix: str = '') -> dict[str, Any]:
  """Returns the settings under full names: {'train.batch_size': 4096, ...}."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    if hasattr(value, 'items'):
      flat |= flatten(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = list(value) if isinstance(value, tuple) else value
  return flat


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
  """Lists the changed settings that prevent a run from being resumed.

  Args:
    old: the flattened settings that the run was started with. A setting that
      its version did not have counts as the default.
    new: the flattened settings now.

  Returns:
    One 'key: old -> new' per setting.
  """

  def resumable(key: str) -> bool:
    return any(key == k or key.startswith(k + '.') for k in RESUMABLE)

  old = flatten(base()) | old
  return [
    f'{key}: {old.get(key)!r} -> {new.get(key)!r}'
    for key in sorted(old.keys() | new.keys())
    if old.get(key) != new.get(key) and not resumable(key)
  ]
