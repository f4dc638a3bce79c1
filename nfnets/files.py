"""Paths that a user gives, atomic file replacement, and the cache folder."""

import contextlib
import errno
import io
import os
import pathlib
import re
import stat
import tempfile
from collections.abc import Iterator

from nfnets import errors

# 'gs://bucket', also as pathlib shortens it: 'gs:/bucket'.
_URL = re.compile(r'[a-z][a-z0-9+.-]+:/', re.IGNORECASE)
_VARIABLE = re.compile(r'\$(?:([A-Za-z_]\w*)|\{([^}]*)\})', re.ASCII)


def user_path(value: str | os.PathLike, what: str) -> pathlib.Path:
  """Expands `~`, `~user`, `$VARIABLE` and `${VARIABLE}` in a path.

  Every path that a user gives passes through here, since a shell expands only
  some of them: not `--workdir=~/run`, and nothing in a config file.

  Args:
    value: the path as the user gave it. A `$` in it is part of a name if the
      path exists as it is, or if its folder does and there is no such variable.
    what: the argument, setting or variable that it comes from, for messages.

  Raises:
    UserError: the path is empty or a URL, a variable is not set, or a user has
      no home folder.
  """
  given = os.fsdecode(value)
  if not given:
    raise errors.UserError(f'{what} is empty: give a path')

  def variable(match: re.Match[str]) -> str:
    name = match[1] or match[2]
    # An empty one would turn '$SCRATCH/run' into '/run'.
    if os.environ.get(name):
      return os.environ[name]
    before, rest = match.string[: match.end()], match.string[match.end() :]
    if os.path.lexists(before + rest.partition('/')[0]):
      return match[0]
    raise errors.UserError(
      f'{given} ({what}): the variable {name!r} is not set or empty: set it, or'
      ' write the path without it'
    )

  path = os.path.expanduser(given)
  if not os.path.lexists(path):
    path = os.path.expanduser(_VARIABLE.sub(variable, path))
  refuse_url(path, what)
  if path.startswith('~') and not os.path.lexists(path):
    raise errors.UserError(
      f'{given} ({what}): {path.partition("/")[0]} has no home folder: write'
      f' its path, or ./{path} for a file of this name'
    )
  return pathlib.Path(path)


def refuse_url(value: str, what: str) -> None:
  """Raises an error if a path or a data set's name is a URL.

  Args:
    value: the path or name.
    what: see `user_path`.

  Raises:
    UserError: it is a URL.
  """
  if _URL.match(value):
    raise errors.UserError(
      f'{value} ({what}): URLs are not supported: mount the bucket as a folder'
      ' (gs:// with gcsfuse, s3:// with mountpoint-s3) or copy the files, and'
      ' give the path of the folder or file'
    )


def open_regular(path: str | bytes | os.PathLike) -> io.FileIO:
  """Opens a regular file, or a link to one, for reading bytes.

  Opening anything else may wait forever (a named pipe) or never end (a device).

  Args:
    path: the file.

  Returns:
    The unbuffered file, to be closed by the caller.

  Raises:
    OSError: the path is not a regular file, or cannot be opened.
  """
  mode = os.stat(path).st_mode
  if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # open() refuses folders.
    raise OSError(errno.EINVAL, 'not a regular file', os.fsdecode(path))
  return open(path, 'rb', buffering=0)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields a temporary file that replaces `path` when the block succeeds.

  Readers see either the old file or the complete new one. If the block raises,
  `path` is unchanged and the temporary file is removed.

  Args:
    path: the file to write; its folder must exist.

  Yields:
    An empty file in the same folder, to write to.

  Raises:
    OSError: the folder is missing or cannot be written.
  """
  path = pathlib.Path(path)
  handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
  os.close(handle)
  temporary = pathlib.Path(name)
  try:
    yield temporary
    # mkstemp gives access to the owner only; other files follow the umask.
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o666 & ~mask)
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


def cache_folder(*parts: str) -> pathlib.Path:
  """Returns `$XDG_CACHE_HOME/nfnets`, or `~/.cache/nfnets`; does not create it.

  A relative `$XDG_CACHE_HOME` is ignored, as the XDG specification requires.

  Args:
    *parts: subfolders to append, such as 'xla'.
  """
  base = os.environ.get('XDG_CACHE_HOME', '')
  if not os.path.isabs(base):
    base = os.path.join(os.path.expanduser('~'), '.cache')
  return pathlib.Path(base, 'nfnets', *parts)
