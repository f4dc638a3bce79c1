"""Folders of images: one folder per class, listed once."""

import logging
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nfnets import errors
from nfnets.data import cache

IMAGE_ENDINGS = (
  '.jpg',
  '.jpeg',
  '.png',
  '.webp',
  '.bmp',
  '.gif',
  '.tif',
  '.tiff',
)
"""Of image files, in lower case; case makes no difference."""

_LOG = logging.getLogger(__name__)
# A folder that was changed so shortly before it was listed may have been
# changed again within the same tick of the file system's clock.
_CLOCK_TICK_NS = 2 * 10**9


class Listing(NamedTuple):
  """The image files below a folder."""

  root: str
  paths: np.ndarray
  """bytes[N], relative to the root, sorted."""

  def class_names(self) -> tuple[str, ...]:
    """The folders directly below the root that hold images, in order.

    They are sorted by name, as numbers if all of them are decimal numbers.
    """
    names = {os.fsdecode(path.split(b'/', 1)[0]) for path in self.in_classes()}
    if all(name.isdecimal() for name in names):
      return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))

  def in_classes(self) -> list[bytes]:
    """The paths that are below a class's folder."""
    return [path for path in self.paths.tolist() if b'/' in path]


def list_images(root: str | os.PathLike) -> Listing:
  """Finds the image files below a folder, following links.

  Hidden files and folders (names that start with a dot) are left out; so are
  links to a folder that holds the link, which would have no end. Files count
  by their ending, even if they turn out to be unreadable.

  The list is kept in the cache and made anew when a folder has changed, that
  is, a file was added, removed or renamed.

  Raises:
    UserError: the folder cannot be read.
  """
  root = os.path.abspath(root)
  kept_at = cache.entry_path('folders', root)
  kept = cache.load_arrays(kept_at)
  if kept is not None and _is_current(root, kept):
    return Listing(root, kept['paths'])
  started = time.time_ns()
  folders: dict[str, int] = {}
  try:
    paths = sorted(map(os.fsencode, _walk(root, '', (), folders)))
  except OSError as error:
    raise errors.UserError(
      f'{error.filename}: cannot be read: {error.strerror}'
    ) from error
  listing = Listing(root, np.array(paths, bytes))
  arrays = {
    'paths': listing.paths,
    'folders': np.array([os.fsencode(path) for path in folders], bytes),
    'times': np.array(list(folders.values()), np.int64),
    'started': np.array(started, np.int64),
  }
  cache.save_arrays(kept_at, arrays)
  return listing


def find_images(paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
  """Finds the images that a user names, by file or by folder.

  Args:
    paths: files, taken whatever their names, and folders, searched as
      `list_images` does.

  Returns:
    The files, those of each folder sorted.

  Raises:
    UserError: a path does not exist, a folder cannot be read or holds no image.
  """
  found: list[pathlib.Path] = []
  for path in paths:
    if not path.exists():
      raise errors.UserError(f'{path}: no such file or folder')
    if not path.is_dir():
      found.append(path)
      continue
    below = list_images(path).paths.tolist()
    if not below:
      raise errors.UserError(
        f'{path}: no image in this folder ({", ".join(IMAGE_ENDINGS)})'
      )
    found += [path / os.fsdecode(name) for name in below]
  return found


def _walk(
  root: str, below: str, above: tuple[tuple[int, int], ...], folders: dict
) -> Iterator[str]:
  """Yields image files below `root/below`, enters the folders' times."""
  folder = os.path.join(root, below) if below else root
  status = os.stat(folder)
  identity = (status.st_dev, status.st_ino)
  if identity in above:
    return
  folders[below] = status.st_mtime_ns
  with os.scandir(folder) as entries:
    for entry in entries:
      if entry.name.startswith('.'):
        continue
      path = f'{below}/{entry.name}' if below else entry.name
      if entry.is_dir():
        yield from _walk(root, path, (*above, identity), folders)
      elif entry.name.lower().endswith(IMAGE_ENDINGS):
        yield path


def _is_current(root: str, kept: dict[str, np.ndarray]) -> bool:
  """Whether no folder has changed since the list was made."""
  if {'paths', 'folders', 'times', 'started'} - kept.keys():
    return False
  if kept['times'].max(initial=0) > kept['started'] - _CLOCK_TICK_NS:
    return False
  try:
    times = [
      os.stat(os.path.join(os.fsencode(root), folder)).st_mtime_ns
      for folder in kept['folders'].tolist()
    ]
  except OSError:
    return False
  return np.array_equal(times, kept['times'])


def warn_of_strays(listing: Listing) -> None:
  """Names what a folder of classes holds that is not going to be used."""
  used = set(listing.class_names())
  with os.scandir(listing.root) as entries:
    unused = [
      entry.name
      for entry in entries
      if entry.is_dir()
      and not entry.name.startswith('.')
      and entry.name not in used
    ]
  if unused:
    _LOG.warning(
      '%s: no class, since it holds no image (%s)',
      pathlib.Path(listing.root) / min(unused),
      ', '.join(IMAGE_ENDINGS),
    )
