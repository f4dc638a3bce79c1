"""A folder of images as a data set: its splits and its labels."""

import hashlib
import os
from collections.abc import Sequence

import numpy as np

from nfnets import errors
from nfnets.data import folders
from nfnets.data import source as source_lib

HELD_OUT_SHARE = 0.1
"""Of each class, where a folder does not come divided."""

# The folders that make up a split, most fitting first; case is ignored.
_SPLIT_FOLDERS = {
  'train': ('train', 'training'),
  'valid': ('val', 'valid', 'validation', 'test'),
  'test': ('test', 'val', 'valid', 'validation'),
}


class FolderSource:
  """Image files with a label each, read when they are asked for."""

  def __init__(
    self,
    name: str,
    split: str,
    class_names: Sequence[str],
    root: str,
    paths: np.ndarray,
    labels: np.ndarray,
  ):
    """Takes files as they are given.

    Args:
      name: of the data set.
      split: of the data set.
      class_names: what the labels stand for.
      root: the folder that the paths start from.
      paths: bytes[N], relative to the root.
      labels: int[N].
    """
    self.name = name
    self.split = split
    self.class_names = tuple(class_names)
    self._root = os.fsencode(root)
    self._paths = paths
    self._labels = np.asarray(labels, np.int32)

  @property
  def num_classes(self) -> int:
    """Labels are in [0, num_classes)."""
    return len(self.class_names)

  @property
  def labels(self) -> np.ndarray:
    """All labels, int32[N], known without reading an image."""
    return self._labels

  def __len__(self) -> int:
    """The number of files."""
    return len(self._paths)

  def __getitem__(self, index: int) -> source_lib.Example:
    """Reads file `index`, still encoded; its path is its id.

    Raises:
      UnreadableError: the file cannot be read.
    """
    path = os.path.join(self._root, self._paths[index])
    try:
      with open(path, 'rb', buffering=0) as file:
        data = file.read()
    except OSError as error:
      reason = error.strerror or str(error)
      raise source_lib.UnreadableError(os.fsdecode(path), reason) from error
    label = int(self._labels[index])
    return {'image': data, 'label': label, 'id': os.fsdecode(path)}


def load_folder(name: str, root: str, split: str) -> FolderSource:
  """Opens a split of a folder of images.

  Divided folders: `train/CLASS/*`, and for the splits 'valid' and 'test'
  `val/CLASS/*` or `test/CLASS/*`, whichever fits the split's name better and
  is there. The classes are those of `train`.

  One level, `CLASS/*` (or a `train` with nothing beside it): of each class the
  tenth (rounded, but at least one of two or more) whose paths have the
  smallest SHA-256 hashes is both 'valid' and 'test', the rest is 'train'. So
  an added image moves few others.

  Either way the split 'all' is every image of the classes directly below the
  folder, for test sets.

  Args:
    name: of the source.
    root: the folder.
    split: 'train', 'valid', 'test' or 'all'.

  Raises:
    UserError: there is no such folder, or no classes, or an unknown one.
  """
  root = os.path.abspath(os.path.expanduser(root))
  if not os.path.isdir(root):
    raise errors.UserError(f'{name}: there is no folder {root}')
  train = None if split == 'all' else _split_folder(root, 'train')
  if train and _split_folder(root, 'valid'):
    files = folders.list_images(_split_folder(root, split) or train)
    return from_listing(name, split, _classes(train), files)
  whole = folders.list_images(train or root)
  source = from_listing(name, split, _classes(train or root), whole)
  return source if split == 'all' else _one_level_split(source, split, whole)


def from_listing(
  name: str,
  split: str,
  class_names: Sequence[str],
  listing: folders.Listing,
) -> FolderSource:
  """A source of all files in the folders of classes, labelled by folder.

  Raises:
    UserError: a file is in the folder of another class than `class_names`.
  """
  paths = listing.in_classes()
  label_of = {os.fsencode(name): i for i, name in enumerate(class_names)}
  try:
    labels = [label_of[path.split(b'/', 1)[0]] for path in paths]
  except KeyError as error:
    stranger = os.path.join(listing.root, os.fsdecode(error.args[0]))
    raise errors.UserError(
      f'{stranger}: no such class among the {len(class_names)} to train on'
      f' ({", ".join(class_names[:3])}, ...)'
    ) from error
  return FolderSource(
    name,
    split,
    class_names,
    listing.root,
    np.array(paths, bytes),
    np.array(labels, np.int32),
  )


def _split_folder(root: str, split: str) -> str | None:
  """The folder of a divided root that makes up a split."""
  with os.scandir(root) as entries:
    found = {e.name.lower(): e.path for e in entries if e.is_dir()}
  for name in _SPLIT_FOLDERS[split]:
    if name in found and folders.list_images(found[name]).in_classes():
      return found[name]
  return None


def _classes(root: str) -> tuple[str, ...]:
  listing = folders.list_images(root)
  names = listing.class_names()
  if not names:
    raise errors.UserError(
      f'{root}: no classes: images are looked for in {root}/CLASS/ and below'
      f' ({", ".join(folders.IMAGE_ENDINGS)}); {len(listing.paths)} are there'
      ' outside of any class'
    )
  folders.warn_of_strays(listing)
  return names


def _one_level_split(
  source: FolderSource, split: str, listing: folders.Listing
) -> FolderSource:
  """The part of an undivided folder that is one split (see `load_folder`)."""
  held_out = np.zeros(len(source), bool)
  paths = listing.in_classes()
  for label in range(source.num_classes):
    members = np.flatnonzero(source.labels == label)
    hashes = [hashlib.sha256(paths[i]).digest() for i in members]
    count = max(round(HELD_OUT_SHARE * len(members)), int(len(members) > 1))
    for place in sorted(range(len(members)), key=hashes.__getitem__)[:count]:
      held_out[members[place]] = True
  chosen = ~held_out if split == 'train' else held_out
  return FolderSource(
    source.name,
    split,
    source.class_names,
    listing.root,
    np.array(paths, bytes)[chosen],
    source.labels[chosen],
  )
