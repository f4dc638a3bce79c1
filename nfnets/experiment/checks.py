"""Checks settings as a whole: names, values and contradictions.

Nothing here needs the model, the data set or JAX.
"""

from collections.abc import Mapping

import ml_collections

from nfnets import errors, files
from nfnets.data import sources
from nfnets.experiment import config as config_lib
from nfnets.experiment import kinds, settings


def check(config: ml_collections.ConfigDict) -> None:
  """Checks the settings as far as possible without model and data set.

  Raises:
    UserError: a setting is unknown or missing, has a wrong type, is out of
      range or contradicts another. The message contains name, value and the
      allowed values.
  """
  from_flat(config_lib.flatten(config))


def from_flat(values: Mapping[str, object]) -> ml_collections.ConfigDict:
  """Returns settings, checked and locked.

  Args:
    values: {full name: value} of all settings, as from `config.flatten`.

  Raises:
    UserError: as in `check`.
  """
  config = config_lib.nested(check_values(values))
  _check_together(config)
  return config.lock()


def from_changes(
  changes: Mapping[str, kinds.Value],
) -> ml_collections.ConfigDict:
  """Returns settings, checked and locked.

  Args:
    changes: {full name: value} of those that are not at their defaults.

  Raises:
    UserError: as in `check`.
  """
  return from_flat(config_lib.flatten(config_lib.base()) | dict(changes))


def check_values(values: Mapping[str, object]) -> dict[str, kinds.Value]:
  """Checks names and values, but not how they go together.

  Args:
    values: as in `from_flat`.

  Returns:
    All settings under their full names, each value in its setting's own type.

  Raises:
    UserError: a setting is unknown or missing, has a wrong type or is out of
      range.
  """
  table = settings.SETTINGS
  for name in values:
    if name not in table:
      raise errors.UserError(kinds.unknown(name, list(table)))
  for name in table:
    if name not in values:
      raise errors.UserError(
        f'the setting {name} is missing: start from'
        ' nfnets.experiment.config.base()'
      )
  return {name: table[name].check(name, values[name]) for name in table}


def _check_together(config: ml_collections.ConfigDict) -> None:
  """Checks what a single value does not show."""
  if config.dataset in ('', 'folder:'):
    raise errors.UserError(
      f"config.dataset is {config.dataset!r}: it must be a data set's name or"
      ' folder:/path, such as --config.dataset=folder:/pictures'
    )
  sources.check_paths(config.dataset, config.data.data_dir)
  if config.init_from:
    files.user_path(config.init_from, 'config.init_from')
  elif config_lib.frozen_parts(config):
    raise errors.UserError(
      f"config.freeze is {config.freeze!r}, but config.init_from is '': what is"
      ' frozen would stay random; set config.init_from, or freeze=none'
    )
  if config.train.class_weights == config.data.sampling == 'balanced':
    raise errors.UserError(
      'config.train.class_weights and config.data.sampling are both balanced,'
      ' which favors rare classes twice: set one of them to its default'
    )
  optimizer = config.optimizer
  if optimizer.clipping and optimizer.clip_norm:
    raise errors.UserError(
      f'config.optimizer.clipping is {optimizer.clipping:g} and'
      f' config.optimizer.clip_norm is {optimizer.clip_norm:g}: only one of'
      ' them can clip the gradient; set the other to 0'
    )
  _check_lengths(config)
  data = config.data
  if data.held_out and data.train_split != 'train':
    raise errors.UserError(
      f'config.data.train_split is {data.train_split!r}, but'
      f' config.data.held_out={data.held_out:g} divides the split train: set'
      " train_split to 'train', or held_out to 0"
    )
  final = optimizer.final_learning_rate
  peak = config_lib.peak_learning_rate(config)
  if final > peak:
    raise errors.UserError(
      f'config.optimizer.final_learning_rate is {final}: it must be at most the'
      f' peak learning rate, which is {peak:g}'
    )


def _check_lengths(config: ml_collections.ConfigDict) -> None:
  """Compares the lengths in the same unit; the others need the data set."""
  train, optimizer = config.train, config.optimizer
  if not train.steps and not train.epochs:
    raise errors.UserError(
      'config.train.epochs and config.train.steps are 0: set one of them'
    )
  for unit in ('steps', 'epochs'):
    total, warmup = train[unit], optimizer[f'warmup_{unit}']
    is_unit = unit == 'steps' or not (train.steps or optimizer.warmup_steps)
    if is_unit and total and warmup >= total:
      raise errors.UserError(
        f'config.optimizer.warmup_{unit} is {warmup}: it must be below'
        f' config.train.{unit}, which is {total}'
      )
