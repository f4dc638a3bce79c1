"""Checks that a model has the configuration stored in its weights file."""

import dataclasses

from nfnets import errors, models
from nfnets.models import config as model_config
from nfnets.weights import sources, tree

# Fields that may differ between the file and the model: none of them changes
# what the network computes in evaluation.
_FREE = frozenset((
    'name', 'num_classes', 'train_size', 'test_size', 'crop_pct', 'crop_mode',
    'drop_rate', 'stochdepth_rate', 'remat', 'head_init', 'skip_gain_init',
))  # fmt: skip


def check_options(
  source: sources.Source, name: str, options: tree.Options
) -> None:
  """Checks that requested options agree with those stored in a file.

  Args:
    source: the file, with stored options.
    name: the model's name.
    options: the requested options, completed by the file's.

  Raises:
    UserError: they build a different network.
  """
  stored = dataclasses.asdict(
    models.create_model(name, **source.options).config
  )
  requested = dataclasses.asdict(models.create_model(name, **options).config)
  for field, value in stored.items():
    if field not in _FREE and value != requested[field]:
      raise errors.UserError(
        f'{source.path}: was saved with {field}={value!r}, but'
        f' {field}={requested[field]!r} was requested; omit {field} to use the'
        " file's value"
      )


def check_config(
  source: sources.Source, config: model_config.ModelConfig
) -> None:
  """Checks that a model agrees with the options stored in a file.

  Args:
    source: the file. One without stored options passes.
    config: the model's configuration.

  Raises:
    UserError: they differ; the message lists the flags that change the model
      to match the file.
  """
  if not source.options:
    return
  stored = models.create_model(config.name, **source.options).config
  differing = {
    field: value
    for field, value in dataclasses.asdict(stored).items()
    if field not in _FREE and value != getattr(config, field)
  }
  if differing:
    theirs = ', '.join(f'{key}={value!r}' for key, value in differing.items())
    ours = ', '.join(f'{key}={getattr(config, key)!r}' for key in differing)
    flags = ' '.join(
      f'--config.model.{key}={_as_flag(value)}'
      for key, value in differing.items()
    )
    raise errors.UserError(
      f'{source.path}: was saved with {theirs}, but the model has {ours}; to'
      f' match the file, pass {flags}'
    )


def _as_flag(value: object) -> str:
  return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)
