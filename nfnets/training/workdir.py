"""The directory of a run: made, tried and held for one run at a time."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import TextIO

from nfnets import errors

_LOCK = '.lock'
CHECKPOINTS = 'checkpoints'
METRICS = 'metrics.jsonl'
CONFIG = 'config.json'
TENSORBOARD = 'tensorboard'


@contextlib.contextmanager
def claim(directory: str | pathlib.Path) -> Iterator[pathlib.Path]:
  """Holds a workdir while the context lasts.

  The system lets go of the lock when the process ends, however it ends. Call
  it in process 0 alone (`devices.is_primary`), before anything slow.

  Args:
    directory: made if it is missing.

  Yields:
    Its absolute path.

  Raises:
    UserError: it cannot be written, or another run holds it.
  """
  path = pathlib.Path(directory).absolute()
  try:
    path.mkdir(parents=True, exist_ok=True)
    # Not truncated: it names the run that holds it.
    lock = open(path / _LOCK, 'a+')
  except OSError as error:
    raise errors.UserError(
      f'workdir {path} cannot be written ({error.strerror}): choose another '
      'with --workdir'
    ) from error
  with lock:
    _lock(lock, path)
    yield path


def _lock(lock: TextIO, path: pathlib.Path) -> None:
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    lock.seek(0)
    holder = lock.read().strip() or 'unknown'
    raise errors.UserError(
      f'workdir {path} is in use by another run ({holder}): wait for it, or '
      'choose another with --workdir'
    ) from error
  lock.truncate(0)
  lock.write(f'process {os.getpid()} on {socket.gethostname()}\n')
  lock.flush()
