"""Reads `--config=FILE` and `--config.key=value` from a command line."""

import os
import pathlib
import runpy
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_collections

from nfnets import errors, files
from nfnets.experiment import checks, kinds, settings, variants
from nfnets.experiment import config as config_lib
from nfnets.training import workdir as workdir_lib

# Setting -> the one that switches it off while it is 0.
_NEEDS = {
  'augment.randaugment_magnitude': 'augment.randaugment_layers',
  'augment.randaugment_relative': 'augment.randaugment_layers',
  'optimizer.clip_eps': 'optimizer.clipping',
  'train.early_stopping_metric': 'train.early_stopping_patience',
  'train.sam_share': 'train.sam_rho',
}
# Setting -> another, and its values with which the setting has an effect.
_NEEDS_VALUE = {
  'optimizer.momentum': ('optimizer.name', ('sgd',)),
  'optimizer.nesterov': ('optimizer.name', ('sgd',)),
  'optimizer.beta1': ('optimizer.name', ('adamw', 'lamb')),
  'optimizer.beta2': ('optimizer.name', ('adamw', 'lamb')),
  'optimizer.eps': ('optimizer.name', ('adamw', 'lamb')),
  'optimizer.layer_decay': ('freeze', settings.FREEZE[:-1]),
}


def parse_config(
  arguments: Sequence[str], workdir: pathlib.Path | None = None
) -> tuple[ml_collections.ConfigDict, str]:
  """Reads `--config=FILE[:VARIANT]` and `--config.key=value ...`.

  Args:
    arguments: the command line without the program's own flags.
    workdir: the folder of a run, for its settings if there is no `--config`.

  Returns:
    The settings, checked and locked, and the experiment's name: the file's
    name without '.py', and the variant, such as 'nf_regnet_b1'; the workdir's
    name if the settings are from there.

  Raises:
    UserError: the file is missing or cannot be read, a key or variant is
      unknown, a value has the wrong type, is out of range or has no effect, or
      an argument is not a setting.
  """
  arguments = [_with_path(argument) for argument in _joined(arguments)]
  files_given = [a for a in arguments if a.startswith('--config=')]
  value = files_given[-1].partition('=')[2] if files_given else ''
  if value or workdir is None:
    choice = _find_experiment(value)
    origin, name, values = choice.path, choice.run_name, _run_file(choice)
  else:
    origin, name = workdir / workdir_lib.CONFIG, workdir.name
    values = _read_run(workdir)
  changed = read_changes(a for a in arguments if a not in files_given)
  try:
    # What is changed was checked already: an error is the file's.
    values = checks.check_values({**values, **changed})
  except errors.UserError as error:
    raise errors.UserError(f'{origin}: {error}') from error
  check_effects(changed, values)
  return checks.from_flat(values), name


def _joined(arguments: Sequence[str]) -> list[str]:
  """Turns '--config FILE' into '--config=FILE', and settings likewise."""
  joined: list[str] = []
  for argument in arguments:
    if joined and joined[-1].startswith('--config') and '=' not in joined[-1]:
      if not argument.startswith('--'):
        joined[-1] += f'={argument}'
        continue
    joined.append(argument)
  return joined


def _with_path(argument: str) -> str:
  """Expands the path in '--config=FILE[:VARIANT]', for ml_collections too."""
  name, _, value = argument.partition('=')
  if name != '--config' or not value:
    return argument
  return f'{name}={files.user_path(value, name)}'


def _find_experiment(value: str) -> variants.Choice:
  if not value:
    raise errors.UserError(
      'no --config: choose an experiment, such as'
      ' --config=experiments/digits.py, or continue a run with --workdir=DIR'
    )
  file, colon, variant = value.partition(':')
  path = pathlib.Path(file)
  if os.path.isfile(path):
    return variants.resolve(path, variant if colon else None)
  close = variants.closest(path)
  hint = f'; did you mean {close}?' if close else ''
  raise errors.UserError(f'--config={path}: no such file{hint}')


def _run_file(choice: variants.Choice) -> dict[str, Any]:
  """Returns the flattened settings of an experiment file, not yet checked."""
  path = choice.path
  try:
    get_config = runpy.run_path(str(path)).get('get_config')
    if get_config is None:
      raise errors.UserError(f'{path}: it has no function get_config()')
    config = get_config(*([] if choice.variant is None else [choice.variant]))
  except errors.UserError:
    raise
  except Exception as error:
    # The file is code and may raise anything, such as a SyntaxError.
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    line = getattr(error, 'lineno', None) or (lines or [1])[-1]
    # ml_collections quotes the line breaks in its messages.
    reason = ' '.join(str(error).replace('\\n', ' ').split())
    raise errors.UserError(
      f'{path}, line {line}: {type(error).__name__}: {reason}'
    ) from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise errors.UserError(
      f'{path}: get_config() returned {type(config).__name__}, not a ConfigDict'
    )
  return config_lib.flatten(config)


def _read_run(workdir: pathlib.Path) -> dict[str, Any]:
  """Returns the flattened settings of a run, not yet checked."""
  values = workdir_lib.read_settings(workdir)
  if values is None:
    raise errors.UserError(
      f'no --config, and {workdir} has no run that has saved its settings:'
      ' choose an experiment, such as --config=experiments/digits.py, or the'
      ' --workdir of a run'
    )
  # The settings that its version did not have are at their defaults.
  return config_lib.flatten(config_lib.base()) | values


def read_changes(arguments: Iterable[str]) -> dict[str, kinds.Value]:
  """Returns {name: value} of the arguments '--config.name=value'.

  Args:
    arguments: the arguments.

  Raises:
    UserError: one of them is not a setting, or its value is not allowed.
  """
  known = list(settings.SETTINGS)
  changed: dict[str, kinds.Value] = {}
  for argument in arguments:
    flag, equals, text = argument.partition('=')
    if not flag.startswith('--config.'):
      raise errors.UserError(
        f'unknown argument {argument!r}: --help lists all arguments'
      )
    name = flag.removeprefix('--config.')
    if name not in known:
      raise errors.UserError(kinds.unknown(name, known, '--config.'))
    setting = settings.SETTINGS[name]
    if not equals and setting.kind is bool:
      text = 'true'
    elif not text and setting.kind is not str or not equals:
      raise errors.UserError(f'{argument}: no value; write {flag}=VALUE')
    changed[name] = setting.read(name, text)
  return changed


def check_effects(
  changed: Mapping[str, kinds.Value], values: Mapping[str, kinds.Value]
) -> None:
  """Refuses a change that another setting makes void.

  Args:
    changed: the settings that the user changed.
    values: all settings.

  Raises:
    UserError: a change has no effect; with the remedy.
  """
  for name in changed:
    steps, needed = name.replace('epochs', 'steps'), _NEEDS.get(name)
    if steps != name and steps not in changed and values[steps]:
      raise errors.UserError(
        f'--config.{name} has no effect, because config.{steps} is'
        f' {values[steps]}: change --config.{steps} instead, or set it to 0'
      )
    if needed and needed not in changed and not values[needed]:
      raise errors.UserError(
        f'--config.{name} has no effect, because config.{needed} is'
        f' {values[needed]}: change --config.{needed}, too'
      )
    other, works = _NEEDS_VALUE.get(name, ('', ()))
    if other and values[other] not in works:
      raise errors.UserError(
        f'--config.{name} has no effect, because config.{other} is'
        f' {values[other]}: omit it, or set --config.{other} to'
        f' {errors.listed(works, len(works))}'
      )
