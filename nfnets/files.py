"""Paths that a user gives, files of ours that are read back, the cache."""

import contextlib
import errno
import io
import json
import os
import pathlib
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

from nfnets import errors

# 'gs://bucket', also as pathlib shortens it: 'gs:/bucket'.
_URL = re.compile(r'[a-z][a-z0-9+.-]+:/', re.IGNORECASE)
# Far above what we write: files that others damaged may be of any size.
_MAX_JSON = 2**26  # bytes
_MAX_JSON_DEPTH = 32
_MAX_JSON_DIGITS = 100
_TOO_DEEP = f'it is nested deeper than {_MAX_JSON_DEPTH} levels'
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


def read_json(path: str | os.PathLike) -> Any:
  """Reads a JSON file that we wrote, and that may be damaged by now.

  Args:
    path: the file.

  Returns:
    The value (see `parse_json`).

  Raises:
    OSError: the file cannot be read or is not a regular file.
    ValueError: it is too large or not JSON as we write it.
  """
  with open_regular(path) as file:
    size = os.fstat(file.fileno()).st_size
    if size > _MAX_JSON:
      raise ValueError(f'it has {size} bytes, more than {_MAX_JSON}')
    return parse_json(file.readall())


def parse_json(text: str | bytes) -> Any:
  """Parses JSON, which may contain NaN and infinity.

  What `json.loads` accepts is safe to compare, print and convert only within
  limits: it overflows the interpreter's stack on deep nesting, keeps the last
  of duplicate keys, and reads integers that no float can hold.

  Args:
    text: the JSON, as UTF-8 if it is bytes.

  Returns:
    Nested dicts and lists of strings, numbers, bools and None.

  Raises:
    ValueError: it is not JSON, or exceeds the limits; the message says why.
  """
  try:
    value = json.loads(
      text, object_pairs_hook=_unique_keys, parse_int=_limited_int
    )
  except RecursionError:
    raise ValueError(_TOO_DEEP) from None
  level = [value]
  for _ in range(_MAX_JSON_DEPTH):
    level = [member for item in level for member in _members(item)]
    if not level:
      return value
  raise ValueError(_TOO_DEEP)


def _members(value: Any) -> Iterable[Any]:
  if isinstance(value, dict):
    return value.values()
  return value if isinstance(value, list) else ()


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  result = dict(pairs)
  if len(result) < len(pairs):
    seen: set[str] = set()
    for key, _ in pairs:
      if key in seen:
        raise ValueError(f'the key {key!r:.80} occurs twice')
      seen.add(key)
  return result


def _limited_int(digits: str) -> int:
  if len(digits) > _MAX_JSON_DIGITS:
    raise ValueError(f'it contains an integer of {len(digits)} digits')
  return int(digits)


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


def free_name(path: pathlib.Path) -> pathlib.Path:
  """Returns a free name for a damaged file or folder, beside the original.

  Args:
    path: the original.

  Returns:
    `path` with '.damaged' or, if that is taken, '.damaged2' and so on.
  """
  # A file name has at most 255 bytes, one character has at most 4.
  stem = path.name if len(os.fsencode(path.name)) < 200 else path.name[:50]
  count = 1
  aside = path.with_name(f'{stem}.damaged')
  while os.path.lexists(aside):
    count += 1
    aside = path.with_name(f'{stem}.damaged{count}')
  return aside


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
