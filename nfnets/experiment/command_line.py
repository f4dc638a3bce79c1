"""Reads `--config=FILE` and `--config.key=value` from a command line."""

import difflib
import os
import pathlib
from collections.abc import Sequence

import ml_collections
from absl import flags
from ml_collections import config_flags

from nfnets import errors, files
from nfnets.experiment import config as config_lib
from nfnets.experiment import variants


def parse_config(
  arguments: Sequence[str],
) -> tuple[ml_collections.ConfigDict, str]:
  """Reads `--config=FILE[:VARIANT]` and `--config.key=value ...`.

  Args:
    arguments: the command line without the program's own flags.

  Returns:
    The settings, checked and locked, and the experiment's name: the file's
    name without '.py', and the variant, such as 'nf_regnet_b1'.

  Raises:
    UserError: the file is missing or cannot be read, a key or variant is
      unknown, a value has the wrong type or is out of range, or an argument is
      not a setting.
  """
  arguments = [_with_path(argument) for argument in _joined(arguments)]
  choice = _find_experiment(arguments)
  file_only = [a for a in arguments if a.startswith('--config=')]
  defaults = _parse(file_only, choice.path)
  known = config_lib.flatten(defaults)
  for argument in arguments:
    _check_argument(argument, known)
  config = _parse(arguments, choice.path)
  config_lib.check(config)
  return config, choice.run_name


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


def _find_experiment(arguments: Sequence[str]) -> variants.Choice:
  values = [a.partition('=')[2] for a in arguments if a.startswith('--config=')]
  if not values or not values[-1]:
    raise errors.UserError(
      'no --config: choose an experiment, such as'
      ' --config=experiments/digits.py'
    )
  file, colon, variant = values[-1].partition(':')
  path = pathlib.Path(file)
  if os.path.isfile(path):
    return variants.resolve(path, variant if colon else None)
  close = variants.closest(path)
  hint = f'; did you mean {close}?' if close else ''
  raise errors.UserError(f'--config={path}: no such file{hint}')


def _check_argument(argument: str, known: dict[str, object]) -> None:
  name, _, value = argument.partition('=')
  if name == '--config':
    return
  if not name.startswith('--config.'):
    raise errors.UserError(
      f'unknown argument {argument!r}: --help lists all arguments'
    )
  key = name.removeprefix('--config.')
  if key in known:
    if not value and not isinstance(known[key], bool | str):
      raise errors.UserError(f'{argument}: no value; write {name}=VALUE')
    return
  section = [k for k in known if k.startswith(key + '.')]
  if section:
    raise errors.UserError(
      f'--config.{key} is a group of settings; set one of them, such as'
      f' --config.{section[0]}'
    )
  raise errors.UserError(f'unknown setting --config.{key}: {_hint(key, known)}')


def _hint(key: str, known: dict[str, object]) -> str:
  """Suggests the setting closest to `key`, or lists the groups of settings."""
  close = difflib.get_close_matches(key, known, n=1)
  if close:
    return f'did you mean --config.{close[0]}?'
  groups = sorted({k.partition('.')[0] for k in known})
  return f'the settings are {", ".join(groups)}'


def _parse(
  arguments: Sequence[str], path: pathlib.Path
) -> ml_collections.ConfigDict:
  """Runs ml_collections on `arguments`, with a separate set of flags."""
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    'config',
    flag_values=values,
    lock_config=True,
    sys_argv=['nfnets', *arguments],
  )
  try:
    values(['nfnets', *arguments])
    config = values.config
  except (
    flags.Error,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
  ) as error:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    raise errors.UserError(f'{path}: {lines[0]}') from error
  except Exception as error:
    # The file is code and may raise anything, such as a SyntaxError.
    message = f'{type(error).__name__}: {error}'
    raise errors.UserError(f'{path}: {message}') from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise errors.UserError(
      f'{path}: get_config() returned {type(config).__name__}, not a ConfigDict'
    )
  _check_keys(config, path)
  return config


def _check_keys(config: ml_collections.ConfigDict, path: pathlib.Path) -> None:
  """Checks that a file's settings are those of `base`, all and no others."""
  known = config_lib.flatten(config_lib.base())
  given = config_lib.flatten(config)
  missing = known.keys() - given.keys()
  if missing:
    raise errors.UserError(
      f'{path}: the setting {min(missing)} is missing; start from'
      ' nfnets.experiment.config.base()'
    )
  unknown = given.keys() - known.keys()
  if unknown:
    key = min(unknown)
    raise errors.UserError(
      f'{path}: unknown setting {key}: {_hint(key, known)}'
    )
