"""Finds the image files in folders, with one folder per class."""

import errno
import logging
import os
import pathlib
import stat
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nfnets import errors, files
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
"""File name endings of images, in lower case; case is ignored."""

_LOG = logging.getLogger(__name__)
# A folder that changed this shortly before it was listed may have changed again
# within the same tick of the file system's clock.
_CLOCK_TICK_NS = 2 * 10**9


class Listing(NamedTuple):
  """The image files below a folder."""

  root: str
  paths: np.ndarray
  """bytes[N], relative to the root, sorted."""

  def class_names(self) -> tuple[str, ...]:
    """Returns the names of the root's subfolders that contain images.

    They are sorted by name, or as numbers if all of them are decimal numbers.
    """
    names = {os.fsdecode(path.split(b'/', 1)[0]) for path in self.in_classes()}
    if all(name.isdecimal() for name in names):
      return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))

  def in_classes(self) -> list[bytes]:
    """Returns the paths that are inside a class's folder."""
    return [path for path in self.paths.tolist() if b'/' in path]


def list_images(root: str | os.PathLike) -> Listing:
  """Finds the image files below a folder.

  Hidden files and folders (with names that start with a dot) are skipped. Links
  are followed, except links to a folder that contains the link. Files are
  recognized by their endings, so a listed file may turn out to be unreadable.

  The listing is cached and made again when a folder has changed, that is, when
  a file was added, removed or renamed.

  Args:
    root: the folder; its own name may start with a dot.

  Raises:
    UserError: the folder, or one below it, cannot be read.
  """
  root = os.path.abspath(root)
  cached_at = cache.entry_path('folders', root)
  cached = cache.load_arrays(cached_at)
  if cached is not None and _is_current(root, cached):
    return Listing(root, cached['paths'])
  started = time.time_ns()
  folders: dict[str, int] = {}
  try:
    paths = sorted(map(os.fsencode, _walk(root, '', (), folders)))
  except OSError as error:
    raise _cannot_read(error) from error
  listing = Listing(root, np.array(paths, bytes))
  arrays = {
    'paths': listing.paths,
    'folders': np.array([os.fsencode(path) for path in folders], bytes),
    'times': np.array(list(folders.values()), np.int64),
    'started': np.array(started, np.int64),
  }
  cache.save_arrays(cached_at, arrays)
  return listing


def find_images(paths: Sequence[str | os.PathLike]) -> list[pathlib.Path]:
  """Finds images in the files and folders that a user specified.

  Args:
    paths: files, which may have any name, and folders, searched by
      `list_images`; `~` and `$VARIABLES` are expanded.

  Returns:
    The files in the order of `paths`; those of each folder are sorted.

  Raises:
    UserError: a path does not exist or is a URL, or a folder cannot be read or
      contains no image.
  """
  found: list[pathlib.Path] = []
  for path in [files.user_path(path, 'image') for path in paths]:
    if not _is_folder(path):
      found.append(path)
      continue
    below = list_images(path).paths.tolist()
    if not below:
      raise errors.UserError(
        f'{path}: no image in this folder ({", ".join(IMAGE_ENDINGS)})'
      )
    found += [path / os.fsdecode(name) for name in below]
  return found


def _is_folder(path: pathlib.Path) -> bool:
  try:
    return stat.S_ISDIR(path.stat().st_mode)
  except FileNotFoundError as error:
    raise errors.UserError(f'{path}: no such file or folder') from error
  except OSError as error:
    raise _cannot_read(error) from error


def _cannot_read(error: OSError) -> errors.UserError:
  return errors.UserError(f'{error.filename}: cannot be read: {error.strerror}')


def _walk(
  root: str,
  below: str,
  above: tuple[tuple[int, int], ...],
  folders: dict[str, int],
) -> Iterator[str]:
  """Yields image files below `root/below`; records the folders' mtimes."""
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
      if _is_subfolder(entry):
        yield from _walk(root, path, (*above, identity), folders)
      elif entry.name.lower().endswith(IMAGE_ENDINGS):
        yield path


def _is_subfolder(entry: os.DirEntry[str]) -> bool:
  try:
    return entry.is_dir()
  except OSError as error:
    if error.errno == errno.ELOOP:  # The link points to itself.
      return False
    raise


def _is_current(root: str, cached: dict[str, np.ndarray]) -> bool:
  """Returns whether no folder has changed since the listing was made."""
  if {'paths', 'folders', 'times', 'started'} - cached.keys():
    return False
  if cached['times'].max(initial=0) > cached['started'] - _CLOCK_TICK_NS:
    return False
  try:
    times = [
      os.stat(os.path.join(os.fsencode(root), folder)).st_mtime_ns
      for folder in cached['folders'].tolist()
    ]
  except OSError:
    return False
  return np.array_equal(times, cached['times'])


def subfolders(root: str) -> dict[str, str]:
  """Returns the paths of a folder's visible subfolders by name.

  Raises:
    UserError: the folder cannot be read.
  """
  try:
    with os.scandir(root) as entries:
      return {
        entry.name: entry.path
        for entry in entries
        if not entry.name.startswith('.') and _is_subfolder(entry)
      }
  except OSError as error:
    raise _cannot_read(error) from error


def warn_of_unused(listing: Listing) -> None:
  """Warns if a subfolder contains no images and is therefore not a class."""
  unused = subfolders(listing.root).keys() - set(listing.class_names())
  if unused:
    _LOG.warning(
      '%s: not a class, since it contains no image (%s)',
      errors.printable(os.path.join(listing.root, min(unused))),
      ', '.join(IMAGE_ENDINGS),
    )
