"""The settings of an experiment: defaults, lengths, differences between runs.

`settings.py` has the table of all settings, and `checks.py` checks them. A file
in `experiments/` starts from `base()` or a published recipe (`recipes.py`),
changes some settings and returns the result. Only `nfnets.experiment` reads
these settings; the rest of the package takes plain arguments.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from nfnets.data import sources
from nfnets.experiment import settings

# Settings that may change when a run is resumed: they do not affect the steps.
RESUMABLE = (
  'checkpoint',
  'eval',
  'log',
  'data.data_dir',
  'data.num_threads',
  'data.num_workers',
  'train.early_stopping_metric',
  'train.early_stopping_patience',
)
# The length of a run, which may grow when it is resumed.
LENGTH = ('train.epochs', 'train.steps')


def base() -> ml_collections.ConfigDict:
  """Returns every setting at its default: NFNet-F0 on ImageNet."""
  return nested({name: x.default for name, x in settings.SETTINGS.items()})


def nested(values: Mapping[str, object]) -> ml_collections.ConfigDict:
  """Returns {'train': {'steps': 0}} for {'train.steps': 0}.

  The result accepts values of any type; `checks.check` finds the wrong ones.
  """
  tree: dict[str, Any] = {}
  for name, value in values.items():
    section, _, key = name.rpartition('.')
    (tree.setdefault(section, {}) if section else tree)[key] = value
  return ml_collections.ConfigDict(tree, type_safe=False)


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


def frozen_parts(config: ml_collections.ConfigDict) -> int:
  """Returns the number of frozen parts, see `models.frozen`."""
  freeze = settings.SETTINGS['freeze'].check('freeze', config.freeze)
  return settings.FREEZE.index(freeze)


def peak_learning_rate(config: ml_collections.ConfigDict) -> float:
  """Returns the learning rate at the end of the warm-up."""
  rate, unit = (
    config.optimizer.learning_rate,
    config.optimizer.learning_rate_batch,
  )
  return rate * config.train.batch_size / unit if unit else rate


def flatten(config: Any, prefix: str = '') -> dict[str, Any]:
  """Returns the settings under full names: {'train.batch_size': 4096, ...}."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    if hasattr(value, 'items') and len(value):
      flat |= flatten(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = list(value) if isinstance(value, tuple) else value
  return flat


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
  """Lists the changed settings that prevent a run from being resumed.

  A folder may have moved: a checkpoint knows its classes and images.

  Args:
    old: the flattened settings that the run was started with. A setting that
      its version did not have counts as the default.
    new: the flattened settings now.

  Returns:
    One 'key: old -> new' per setting.
  """
  old = flatten(base()) | old
  for name, setting in settings.SETTINGS.items():
    old[name] = setting.renamed(old[name])

  def resumable(key: str) -> bool:
    if key == 'dataset':
      # A damaged config.json may hold any JSON value here.
      return all(
        isinstance(x, str) and x.startswith(sources.FOLDER_PREFIX)
        for x in (old[key], new[key])
      )
    return any(key == k or key.startswith(k + '.') for k in RESUMABLE)

  return [
    f'{key}: {old.get(key)!r:.80} -> {new.get(key)!r:.80}'
    for key in sorted(old.keys() | new.keys())
    if old.get(key) != new.get(key) and not resumable(key)
  ]
