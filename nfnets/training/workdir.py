"""The directory of a run: created, checked and locked for one run at a time."""

import contextlib
import fcntl
import logging
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any, BinaryIO

from nfnets import errors, files

_log = logging.getLogger(__name__)

_LOCK = '.lock'
_MAX_HOLDER = 200  # bytes
CHECKPOINTS = 'checkpoints'
METRICS = 'metrics.jsonl'
CONFIG = 'config.json'
TENSORBOARD = 'tensorboard'
_FOLDERS = (CHECKPOINTS, TENSORBOARD)
_WILDCARDS = '[*?\\'


@contextlib.contextmanager
def claim(
  directory: str | pathlib.Path, option: str = '--workdir'
) -> Iterator[pathlib.Path]:
  """Locks a workdir while the context lasts.

  The system releases the lock when the process ends, however it ends. Call
  this in process 0 alone (`devices.is_primary`), before anything slow.

  Args:
    directory: the workdir, created if missing.
    option: the option that chooses it, for messages.

  Yields:
    Its absolute path.

  Raises:
    UserError: the workdir or something in it cannot be written, another run
      uses it, or its path cannot be that of a checkpoint.
  """
  path = pathlib.Path(directory).absolute()
  _check_path(str(path), option)
  try:
    path.mkdir(parents=True, exist_ok=True)
    _check_contents(path, option)
    # Not truncated: it contains the name of the run that holds the lock.
    lock = open(path / _LOCK, 'a+b', buffering=0)
  except OSError as error:
    raise _cannot_write(path, error, option) from error
  with lock:
    _lock(lock, path, option)
    yield path


def _check_path(path: str, option: str) -> None:
  """Checks that checkpoints can be written to a path and read from it.

  Raises:
    UserError: they cannot.
  """
  try:
    path.encode()
    # Orbax looks for its files with a glob pattern that starts with the path.
    bad = next((character for character in _WILDCARDS if character in path), '')
  except UnicodeEncodeError as error:
    bad = path[error.start : error.end]
  if bad:
    raise errors.UserError(
      f'workdir {path}: Orbax, which writes the checkpoints, cannot use a path'
      f' with {bad!r}: choose another {option}'
    )


def read_settings(directory: pathlib.Path) -> dict[str, Any] | None:
  """Reads the settings of the workdir's run, under their full names.

  Args:
    directory: the workdir.

  Returns:
    {name: JSON value}, or None if no run has saved its settings there.

  Raises:
    UserError: they cannot be read.
  """
  path = directory / CONFIG
  try:
    settings = files.read_json(path)
    if not isinstance(settings, dict):
      raise ValueError(f'it holds a {type(settings).__name__}, not settings')
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (OSError, ValueError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise errors.UserError(
      f'{path} cannot be read ({reason}): restore it, remove it to resume with'
      ' the settings of this command, or choose another --workdir'
    ) from error
  return settings


def _check_contents(path: pathlib.Path, option: str) -> None:
  """Checks that the run can write all that a workdir contains.

  Raises:
    UserError: a file is where a folder belongs or the other way round, or the
      user may not write it.
  """
  for name in (*_FOLDERS, METRICS, CONFIG, _LOCK):
    member = path / name
    if not os.path.lexists(member):
      continue
    is_folder = name in _FOLDERS
    if not (os.path.isdir if is_folder else os.path.isfile)(member):
      kind = 'folder' if is_folder else 'file'
      raise errors.UserError(
        f'{member} is not a {kind}: move it away, or choose another workdir'
        f' with {option}'
      )
    # The config file is replaced, which does not need this permission.
    if name != CONFIG and not os.access(member, os.W_OK):
      raise errors.UserError(
        f'{member} cannot be written (Permission denied): change its'
        f' permissions, or choose another workdir with {option}'
      )


def _cannot_write(
  path: pathlib.Path, error: OSError, option: str
) -> errors.UserError:
  return errors.UserError(
    f'workdir {path} cannot be written ({error.strerror}): choose another '
    f'with {option}'
  )


def _lock(lock: BinaryIO, path: pathlib.Path, option: str) -> None:
  """Locks the file and writes to it which process holds the lock.

  Raises:
    UserError: another process holds the lock, or the file cannot be written.
  """
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    lock.seek(0)
    text = lock.read(_MAX_HOLDER).decode(errors='replace')
    holder = text.strip() or 'unknown'
    raise errors.UserError(
      f'workdir {path} is in use by another run ({holder}): wait for it to '
      f'finish, or choose another with {option}'
    ) from error
  except OSError as error:
    # Some network file systems have no locks; nothing else needs them.
    _log.warning(
      'workdir %s cannot be locked (%s): make sure that no other run uses it',
      path,
      error.strerror,
    )
  try:
    lock.truncate(0)
    lock.write(f'process {os.getpid()} on {socket.gethostname()}\n'.encode())
  except OSError as error:
    raise _cannot_write(path, error, option) from error
