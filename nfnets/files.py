"""Atomic file replacement, and the user's cache folder."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator


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
