"""File systems that are full."""

import contextlib
import errno
import pathlib
import subprocess
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def small(folder: pathlib.Path, megabytes: int = 1) -> Iterator[pathlib.Path]:
  """Mounts a small file system; skips the test if that is not allowed."""
  folder.mkdir()
  size = f'size={megabytes}m'
  mount = ['mount', '-t', 'tmpfs', '-o', size, 'none', str(folder)]
  try:
    subprocess.run(mount, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip('file systems cannot be mounted here')
  try:
    yield folder
  finally:
    subprocess.run(['umount', '--lazy', str(folder)], check=True)


def fill(folder: pathlib.Path) -> pathlib.Path:
  """Leaves no space in a file system; returns the file that takes it."""
  filler = folder / 'filler'
  with open(filler, 'wb', buffering=0) as file:
    try:
      while file.write(bytes(4096)):
        pass
    except OSError as error:
      assert error.errno == errno.ENOSPC
  return filler
