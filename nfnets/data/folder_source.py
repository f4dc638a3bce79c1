"""A folder of images as a data set: its splits and its labels."""

import hashlib
import os
from collections.abc import Sequence

import numpy as np

from nfnets import errors, files
from nfnets.data import folder_layout, folders, unreadable
from nfnets.data import source as source_lib

_HELD_OUT_FRACTION = 0.1  # Of each class, if a folder is not divided.


class FolderSource:
  """Labeled image files, each read when it is indexed."""

  def __init__(
    self,
    name: str,
    split: str,
    class_names: Sequence[str],
    root: str,
    paths: np.ndarray,
    labels: np.ndarray,
  ):
    """Creates a source of the given files.

    Args:
      name: the data set's name.
      split: the split's name.
      class_names: the name of each label.
      root: the folder that `paths` are relative to.
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
    """The number of classes; labels are in [0, num_classes)."""
    return len(self.class_names)

  @property
  def labels(self) -> np.ndarray:
    """All labels, int32[N], known without reading an image."""
    return self._labels

  def __len__(self) -> int:
    """Returns the number of files."""
    return len(self._paths)

  def __getitem__(self, index: int) -> source_lib.Example:
    """Reads file `index`; its image stays encoded, its path is its id.

    Raises:
      UnreadableError: the file cannot be read.
    """
    path = os.path.join(self._root, self._paths[index])
    with unreadable.identified(os.fsdecode(path)):
      with files.open_regular(path) as file:
        data = file.read()
    label = int(self._labels[index])
    return {'image': data, 'label': label, 'id': os.fsdecode(path)}


def load_folder(
  name: str, root: str, split: str, held_out: float = 0.0
) -> FolderSource:
  """Opens a split of a folder of images.

  A divided folder contains `train/CLASS/*` and, for the splits 'valid' and
  'test', `val/CLASS/*` or `test/CLASS/*` (or another name of a split, see
  `folder_layout.NAMES`): the one that matches the split's name better, if both
  exist. The classes are those of `train`.

  An undivided folder contains `CLASS/*` (or `train/CLASS/*` and no other
  split). A tenth of each class (rounded, but at least one image if the class
  has two or more) is both 'valid' and 'test': the images with the smallest
  SHA-256 hashes of their paths. The rest is 'train'. Adding an image therefore
  moves few others between the splits.

  With `held_out`, the folder has `train` and `test`, but no validation folder.
  'valid' is this fraction of each class of `train`, chosen by the same rule,
  and 'train' the rest.

  In all cases, the split 'all' is every image in `CLASS/*`, the folder's
  immediate subfolders: use it for a test set.

  Args:
    name: the source's name.
    root: the folder; `~` and `$VARIABLES` are expanded.
    split: 'train', 'valid', 'test' or 'all'.
    held_out: fraction of `train` to hold out for validation; 0: none.

  Raises:
    UserError: the folder does not exist or is a URL, it does not have two
      classes or more, it is organized in another way, or a split has a class
      that 'train' does not have.
  """
  root = os.path.abspath(files.user_path(root, 'dataset'))
  if not os.path.isdir(root):
    file = ', but a file: unpack it' if os.path.exists(root) else ''
    raise errors.UserError(f'{name}: there is no folder {root}{file}')
  if split == 'all':
    whole = folders.list_images(root)
    return from_listing(name, split, folder_layout.classes(whole), whole)
  if held_out:
    folder_layout.check_divisible(root)
  train, other = folder_layout.divide(root, split)
  names = folder_layout.training_classes(
    train, root, one_is_enough=bool(other) and split != 'train'
  )
  if other and (split == 'test' or not held_out):
    folder_layout.warn_of_unused(other)
    chosen = train if split == 'train' else other
    return from_listing(name, split, names, chosen)
  source = from_listing(name, split, names, train)
  return _part(source, split, train, held_out or _HELD_OUT_FRACTION)


def from_listing(
  name: str,
  split: str,
  class_names: Sequence[str],
  listing: folders.Listing,
) -> FolderSource:
  """Returns a source of all files in classes, labeled by their folders.

  Args:
    name: the source's name.
    split: the split's name.
    class_names: the folder of each label.
    listing: the image files.

  Raises:
    UserError: a file is in the folder of a class not in `class_names`.
  """
  paths = listing.in_classes()
  label_of = {os.fsencode(name): i for i, name in enumerate(class_names)}
  try:
    labels = [label_of[path.split(b'/', 1)[0]] for path in paths]
  except KeyError as error:
    unknown = os.path.join(listing.root, os.fsdecode(error.args[0]))
    raise errors.UserError(
      f'{unknown}: not one of the {len(class_names)} training classes'
      f' ({", ".join(class_names[:3])}, ...); remove it, or add it to the'
      ' training images'
    ) from error
  return FolderSource(
    name,
    split,
    class_names,
    listing.root,
    np.array(paths, bytes),
    np.array(labels, np.int32),
  )


def _part(
  source: FolderSource, split: str, listing: folders.Listing, fraction: float
) -> FolderSource:
  """Returns one split of images that are not divided (see `load_folder`)."""
  held_out = np.zeros(len(source), bool)
  paths = listing.in_classes()
  for label in range(source.num_classes):
    members = np.flatnonzero(source.labels == label)
    hashes = [hashlib.sha256(paths[i]).digest() for i in members]
    count = max(1, round(fraction * len(members)))
    count = min(count, len(members) - 1)
    smallest = sorted(range(len(members)), key=hashes.__getitem__)[:count]
    held_out[members[smallest]] = True
  chosen = ~held_out if split == 'train' else held_out
  return FolderSource(
    source.name,
    split,
    source.class_names,
    listing.root,
    np.array(paths, bytes)[chosen],
    source.labels[chosen],
  )
