"""Every setting of an experiment, its default and its checks.

A file in `experiments/` starts from `base()` or from a published recipe
(`nfnets/recipes.py`), changes what is different and returns the result. The
settings stop at the entry points: the rest of the package takes plain
arguments.
"""

from typing import Any

import ml_collections
from ml_collections import config_dict

from nfnets import errors

# Settings that may differ when a run goes on: none of them changes a number.
RESUMABLE = (
  'checkpoint',
  'eval',
  'log',
  'data.data_dir',
  'data.num_threads',
  'data.num_workers',
)


def base() -> ml_collections.ConfigDict:
  """The full set of settings: NFNet-F0 on ImageNet without augmentation."""
  return ml_collections.ConfigDict(
    {
      'seed': 0,
      'dataset': 'imagenet2012',  # 'digits', 'folder:/path' or a TFDS name
      'init_from': '',  # weights file to fine-tune from
      'freeze': False,  # train the classifier only
      'model': _model(),
      'data': _data(),
      'augment': _augment(),
      'optimizer': _optimizer(),
      'train': _train(),
      'eval': {
        'every_epochs': 1.0,
        'every_steps': 0,  # in place of every_epochs
        'batch_size': 1000,  # of all devices together
      },
      'checkpoint': {
        'every_epochs': 1.0,
        'every_steps': 0,  # in place of every_epochs
        'keep': 3,  # the newest; the best is kept besides
      },
      'log': {'every_steps': 100},
    }
  )


def _model() -> dict[str, Any]:
  # One call per setting: a placeholder used twice is one value.
  placeholder = config_dict.placeholder
  return {
    'name': 'nfnet_f0',  # python -m nfnets.models lists them
    # None: as the model's own table says.
    'width': placeholder(float),
    'depth': placeholder(tuple),
    'group_size': placeholder(int),
    'se_ratio': placeholder(float),
    'drop_rate': placeholder(float),
    'stochdepth_rate': placeholder(float),
    'activation': placeholder(str),
    'alpha': placeholder(float),
    'skip_gain_init': placeholder(float),
    'remat': False,  # recompute each block in the backward pass
  }


def _data() -> dict[str, Any]:
  return {
    'data_dir': '',  # '': the usual place of TFDS
    'train_split': 'train',
    'eval_split': 'test',
    'image_size': 0,  # pixels; 0: the model's training size
    'eval_size': 0,  # pixels; 0: the model's test size
    'eval_preset': 'deepmind',  # 'deepmind', 'deepmind_crop', 'timm'
    'area_range': (0.08, 1.0),  # of the random crop, share of the image
    'aspect_range': (3 / 4, 4 / 3),
    'num_threads': 0,  # that decode; 0: as many as there are cores
    'num_workers': 0,  # processes; 0: threads only
    'scaled_decoding': False,  # faster for large JPEGs; pixels differ a little
    'strict': False,  # stop at the first unreadable image
    'max_unreadable_share': 0.05,  # stop when more images are unreadable
  }


def _augment() -> dict[str, Any]:
  return {
    'flip': True,
    'randaugment_layers': 0,  # 0: off
    'randaugment_magnitude': 0,
    'mixup_alpha': 0.0,  # 0: off
    'cutmix_alpha': 0.0,  # 0: off
    'augment_before_mix': False,
    'reference_quirks': False,  # RandAugment as in the published code
  }


def _optimizer() -> dict[str, Any]:
  return {
    'learning_rate': 0.1,
    # Peak = learning_rate * batch size / this; 0: learning_rate itself.
    'learning_rate_batch': 256,
    'final_learning_rate': 0.0,
    'warmup_epochs': 5.0,
    'warmup_steps': 0,  # in place of warmup_epochs
    'momentum': 0.9,
    'nesterov': True,
    'weight_decay': 2e-5,
    'clipping': 0.0,  # AGC's lambda; 0: no clipping
    'clip_eps': 1e-3,
  }


def _train() -> dict[str, Any]:
  return {
    'batch_size': 4096,  # outputs per step, all devices together
    'epochs': 360.0,
    'steps': 0,  # in place of epochs
    'label_smoothing': 0.1,
    'ema_decay': 0.0,  # 0: no average is kept
    'dtype': 'bfloat16',  # of the forward and backward pass
    'accumulation': 1,  # micro-batches per step
    'sam_rho': 0.0,  # 0: no sharpness-aware minimization
    'sam_share': 0.2,  # of the batch that the ascent sees
  }


def steps(
  section: ml_collections.ConfigDict,
  name: str,
  examples: int,
  batch_size: int,
) -> int:
  """A length in steps, from `<name>steps` or else from `<name>epochs`.

  This is the one place that turns epochs into steps. An epoch is as many
  outputs of the train step as the data set has images.

  Args:
    section: the settings that hold both lengths.
    name: what stands before 'steps' and 'epochs', such as 'warmup_'.
    examples: images of the data set.
    batch_size: outputs per step.
  """
  if section[f'{name}steps']:
    return section[f'{name}steps']
  return int(section[f'{name}epochs'] * examples / batch_size)


_POSITIVE = (
  'train.batch_size',
  'train.accumulation',
  'eval.batch_size',
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
)
_SHARE = (
  'optimizer.momentum',
  'train.label_smoothing',
  'train.ema_decay',
  'data.max_unreadable_share',
)
_CHOICES = {
  'train.dtype': ('float32', 'bfloat16'),
  'data.eval_preset': ('deepmind', 'deepmind_crop', 'timm'),
}


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses settings that no model and no data could make right.

  Raises:
    UserError: names the key, its value and what it may be.
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
  for key in _SHARE:
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


def flatten(config: Any, prefix: str = '') -> dict[str, Any]:
  """{'train.batch_size': 4096, ...}: the settings under their full names."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    if hasattr(value, 'items'):
      flat |= flatten(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = list(value) if isinstance(value, tuple) else value
  return flat


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
  """Settings that keep a run from going on, as 'key: old -> new'.

  Args:
    old: the flat settings that the run was started with.
    new: the flat settings now.
  """

  def resumable(key: str) -> bool:
    return any(key == k or key.startswith(k + '.') for k in RESUMABLE)

  return [
    f'{key}: {old.get(key)!r} -> {new.get(key)!r}'
    for key in sorted(old.keys() | new.keys())
    if old.get(key) != new.get(key) and not resumable(key)
  ]
