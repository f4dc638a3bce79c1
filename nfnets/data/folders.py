"""Finds the image files in folders, with one folder per class."""

import errno
import logging
import os
import pathlib
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nfnets import errors, files
from nfnets.data import cache, image_size

IMAGE_ENDINGS = (
  *('.jpg', '.jpeg', '.jpe', '.jfif', '.pjpeg', '.png', '.apng', '.webp'),
  *('.bmp', '.dib', '.gif', '.tif', '.tiff'),
)
"""File name endings of images, in lower case; case is ignored."""

# Endings of pictures that `images.decode` does not accept.
_OTHER_PICTURES = frozenset(
  '.3fr .arw .avif .cr2 .cr3 .dng .eps .exr .hdr .heic .heif .ico .j2k .jp2'
  ' .jpf .jpx .jxl .jxr .nef .orf .pbm .pcx .pgm .pnm .ppm .psd .raf .ras .raw'
  ' .rw2 .svg .svgz .tga .xcf'.split()
)

_LOG = logging.getLogger(__name__)
_WARNED: set[str] = set()
# A folder that changed this shortly before it was listed may have changed again
# within the same tick of the file system's clock.
_CLOCK_TICK_NS = 2 * 10**9


class Others(NamedTuple):
  """The files of one ending that are not listed."""

  ending: str
  """In lower case, such as '.heic'; '' for none."""
  number: int
  example: str
  """The path of one of them, relative to the root."""


class Listing(NamedTuple):
  """The image files below a folder."""

  root: str
  paths: np.ndarray
  """bytes[N], relative to the root, sorted."""
  others: tuple[Others, ...] = ()
  """The files that do not end as images do."""

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
    rows = (map(os.fsdecode, row) for row in cached['others'].tolist())
    others = tuple(Others(a, int(b), c) for a, b, c in rows)
    return Listing(root, cached['paths'], others)
  started = time.time_ns()
  folders: dict[str, int] = {}
  try:
    listing = _divide(root, _walk(root, '', (), folders))
  except OSError as error:
    raise _cannot_read(error) from error
  encoded = [tuple(map(os.fsencode, map(str, row))) for row in listing.others]
  arrays = {
    'paths': listing.paths,
    'others': np.array(encoded, bytes),
    'folders': np.array([os.fsencode(path) for path in folders], bytes),
    'times': np.array(list(folders.values()), np.int64),
    'started': np.array(started, np.int64),
  }
  cache.save_arrays(cached_at, arrays)
  return listing


def _divide(root: str, names: Iterable[str]) -> Listing:
  """Divides the files of a folder into images and others."""
  paths: list[bytes] = []
  others: dict[str, Others] = {}
  for name in names:
    ending = os.path.splitext(name)[1].lower()
    if ending in IMAGE_ENDINGS:
      paths.append(os.fsencode(name))
    else:
      seen = others.get(ending, Others(ending, 0, name))
      example = min(seen.example, name)
      others[ending] = Others(ending, seen.number + 1, example)
  return Listing(
    root, np.array(sorted(paths), bytes), tuple(sorted(others.values()))
  )


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
    listing = list_images(path)
    if not len(listing.paths):
      raise errors.UserError(
        f'{path}: no image in this folder {described_endings(listing)}'
      )
    warn_of_unread(listing)
    found += [path / os.fsdecode(name) for name in listing.paths.tolist()]
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
  """Yields files below `root/below`; records the folders' mtimes."""
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
      else:
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
  if {'paths', 'others', 'folders', 'times', 'started'} - cached.keys():
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


def unread_pictures(listing: Listing) -> list[str]:
  """Describes the pictures that are not listed, one line per ending.

  They are in formats that `images.decode` does not accept, or images by their
  content that do not end as images do (one of each ending is opened).
  """
  lines = []
  for ending, count, example in listing.others:
    kind = f'{ending} files' if ending else 'images without an ending'
    if ending in _OTHER_PICTURES:
      remedy = 'convert them to JPEG or PNG'
    elif _has_image(os.path.join(listing.root, example)):
      remedy = f'rename them to end in one of {", ".join(IMAGE_ENDINGS)}'
    else:
      continue
    lines.append(f'{kind} are left out: {count}, such as {example}; {remedy}')
  return lines


def _has_image(path: str) -> bool:
  """Returns whether a file starts as the images do that can be decoded."""
  try:
    with files.open_regular(path) as file:
      return image_size.is_known(file.read(16))
  except OSError:
    return False


def warn_of_unread(listing: Listing) -> None:
  """Warns of the pictures that are not listed, once in a process."""
  for line in unread_pictures(listing):
    warn_once(f'{listing.root}: {line}')


def warn_once(line: str) -> None:
  """Logs a warning, unless this process has logged it before.

  A data set is opened several times, for its splits.
  """
  if line not in _WARNED:
    _WARNED.add(line)
    _LOG.warning('%s', errors.printable(line))


def described_endings(listing: Listing) -> str:
  """Returns the endings of images, and the pictures with other ones."""
  endings = f'({", ".join(IMAGE_ENDINGS)})'
  return '; '.join([endings, *unread_pictures(listing)])
