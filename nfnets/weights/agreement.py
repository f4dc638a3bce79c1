"""Whether the settings in a file are those of the model that takes it."""

import dataclasses
from typing import Any

from nfnets import errors, models
from nfnets.models import config as model_config
from nfnets.weights import sources

# Settings that may differ between a file and the model that takes it: none of
# them changes what an evaluated network computes.
_FREE = frozenset((
    'name', 'num_classes', 'train_size', 'test_size', 'crop_pct', 'crop_mode',
    'drop_rate', 'stochdepth_rate', 'remat', 'head_init', 'skip_gain_init',
))  # fmt: skip


def check_options(
  source: sources.Source,
  name: str,
  written: dict[str, Any],
  options: dict[str, Any],
) -> None:
  """Compares what a file says with the options that a model is asked for.

  Args:
    source: the file.
    name: of the model.
    written: the file's options.
    options: those asked for, the file's where nothing is asked.

  Raises:
    UserError: they differ.
  """
  theirs = dataclasses.asdict(models.create_model(name, **written).config)
  ours = dataclasses.asdict(models.create_model(name, **options).config)
  for field in theirs.keys() - _FREE:
    if theirs[field] != ours[field]:
      raise errors.UserError(
        f'{source.path}: was saved with {field}={theirs[field]!r}, asked for '
        f'{ours[field]!r}; leave {field} out to use what the file says'
      )


def check_config(
  source: sources.Source, config: model_config.ModelConfig
) -> None:
  """Compares what a file says with a model that is made already.

  Raises:
    UserError: they differ; it names the flags that make the model alike.
  """
  if not source.options:
    return
  theirs = models.create_model(config.name, **source.options).config
  differ = {
    field: value
    for field, value in dataclasses.asdict(theirs).items()
    if field not in _FREE and value != getattr(config, field)
  }
  if differ:
    said = ', '.join(f'{field}={value!r}' for field, value in differ.items())
    asked = ', '.join(f'{field}={getattr(config, field)!r}' for field in differ)
    remedy = ' '.join(
      f'--config.model.{field}={_on_command_line(value)}'
      for field, value in differ.items()
    )
    raise errors.UserError(
      f'{source.path}: was saved with {said}, the model has {asked}; make it'
      f' alike: {remedy}'
    )


def _on_command_line(value: Any) -> str:
  return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)
