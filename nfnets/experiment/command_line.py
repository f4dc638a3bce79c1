"""Reads `--config=FILE` and `--config.key=value` from a command line."""

import difflib
import pathlib
from collections.abc import Sequence

import ml_collections
from absl import flags
from ml_collections import config_flags

from nfnets import errors
from nfnets.experiment import config as config_lib


def parse_config(
  arguments: Sequence[str],
) -> tuple[ml_collections.ConfigDict, pathlib.Path]:
  """Reads `--config=FILE` and `--config.key=value ...`.

  Args:
    arguments: what is left of the command line when the entry point's own
      flags are taken away.

  Returns:
    The checked and locked settings, and the file that they come from.

  Raises:
    UserError: no or an unreadable file, an unknown key, a value of the wrong
      type or out of range, or an argument that is no setting.
  """
  arguments = _joined(arguments)
  path = _config_file(arguments)
  file_only = [a for a in arguments if a.startswith('--config=')]
  defaults = _parse(file_only, str(path))
  known = config_lib.flatten(defaults)
  for argument in arguments:
    _check_argument(argument, known)
  config = _parse(arguments, str(path))
  config_lib.check(config)
  return config, path


def _joined(arguments: Sequence[str]) -> list[str]:
  """Turns '--config FILE' into '--config=FILE', and '-config' into two."""
  joined: list[str] = []
  for argument in arguments:
    if joined and joined[-1].startswith('--config') and '=' not in joined[-1]:
      if not argument.startswith('--'):
        joined[-1] += f'={argument}'
        continue
    joined.append(argument)
  return joined


def _config_file(arguments: Sequence[str]) -> pathlib.Path:
  values = [a.partition('=')[2] for a in arguments if a.startswith('--config=')]
  if not values or not values[-1]:
    raise errors.UserError(
      'no --config: name an experiment, such as --config=experiments/digits.py'
    )
  path = pathlib.Path(values[-1].partition(':')[0])
  if path.is_file():
    return path
  folder = path.parent
  files = [str(f) for f in folder.glob('*.py')] if folder.is_dir() else []
  close = difflib.get_close_matches(str(path), files, n=1)
  hint = f'; did you mean {close[0]}?' if close else ''
  raise errors.UserError(f'--config={path}: no such file{hint}')


def _check_argument(argument: str, known: dict[str, object]) -> None:
  name, _, value = argument.partition('=')
  if name == '--config':
    return
  if not name.startswith('--config.'):
    raise errors.UserError(
      f'unknown argument {argument!r}: see --help for those that there are'
    )
  key = name.removeprefix('--config.')
  if key in known:
    if not value and not isinstance(known[key], bool | str):
      raise errors.UserError(f'{argument}: no value; write {name}=VALUE')
    return
  close = difflib.get_close_matches(key, known, n=1)
  section = [k for k in known if k.startswith(key + '.')]
  hint = f'did you mean --config.{close[0]}?' if close else ''
  if section:
    hint = f'it holds settings, such as --config.{section[0]}'
  where = (
    f'the settings are {", ".join(sorted({k.split(".")[0] for k in known}))}'
  )
  raise errors.UserError(f'unknown setting --config.{key}: {hint or where}')


def _parse(arguments: Sequence[str], path: str) -> ml_collections.ConfigDict:
  """One pass of ml_collections over `arguments`, on flags of its own."""
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
    # Whatever a settings file does wrong, down to its syntax.
    message = f'{type(error).__name__}: {error}'
    raise errors.UserError(f'{path}: {message}') from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise errors.UserError(
      f'{path}: get_config() returned {type(config).__name__}, not a ConfigDict'
    )
  missing = (
    config_lib.flatten(config_lib.base()).keys()
    - config_lib.flatten(config).keys()
  )
  if missing:
    raise errors.UserError(
      f'{path}: without the setting {min(missing)}; start from'
      ' nfnets.experiment.config.base()'
    )
  return config
