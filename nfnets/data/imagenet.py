"""ImageNet (ILSVRC 2012) as a folder of its original files.

The images are ordered as TFDS orders them when it prepares ImageNet. Both forms
therefore have the same image at each index, and "the first 10,000 of train" are
the published validation images in both.
"""

import csv
import hashlib
import os
import re

import numpy as np

from nfnets import errors
from nfnets.data import folder_source, folders

VALID_SIZE = 10_000
"""Number of images in the published 'valid' split, the first of 'train'."""

WNID = re.compile(r'n\d{8}')
"""The pattern of a WordNet id."""

# Where train and val may be, relative to the folder that the user specified.
_BELOW = ('', 'ILSVRC/Data/CLS-LOC', 'Data/CLS-LOC', 'imagenet', 'imagenet2012')
_SOLUTION = 'LOC_val_solution.csv'


def find_folder(root: str) -> str | None:
  """Returns the folder at or below `root` with `train/nXXXXXXXX` folders."""
  for below in _BELOW:
    train = os.path.join(root, below, 'train')
    if os.path.isdir(train) and any(
      map(WNID.fullmatch, folders.subfolders(train))
    ):
      return os.path.dirname(train)
  return None


def load_folder(name: str, root: str, split: str) -> folder_source.FolderSource:
  """Opens a split of ImageNet's original files.

  Args:
    name: the source's name.
    root: the folder with `train/WNID/*.JPEG`, and with `val/WNID/*.JPEG` or
      `val/*.JPEG`. The latter requires Kaggle's LOC_val_solution.csv in `root`
      or up to three folders above it.
    split: 'train' is all training images, 'valid' the first 10,000 of them,
      'test' the 50,000 validation images.

  Raises:
    UserError: something is missing.
  """
  train = folders.list_images(os.path.join(root, 'train'))
  classes = train.class_names()
  if split == 'test':
    return _load_validation(name, root, classes)
  source = folder_source.from_listing(name, split, classes, train)
  paths = np.array(train.in_classes(), bytes)
  order = tfds_order(paths.tolist(), 'train')
  if split == 'valid':
    order = order[:VALID_SIZE]
  return folder_source.FolderSource(
    name, split, classes, train.root, paths[order], source.labels[order]
  )


def tfds_order(paths: list[bytes], tfds_split: str) -> np.ndarray:
  """Returns the order in which TFDS stores examples keyed by file name.

  TFDS sorts them by the MD5 hash of the split's name and the key.

  Args:
    paths: the files' paths, N of them; only the file names matter.
    tfds_split: 'train' or 'validation'.

  Returns:
    int64[N]: paths[order] is in TFDS's order.
  """
  salt = hashlib.md5(tfds_split.encode(), usedforsecurity=False)

  def digest(index: int) -> bytes:
    salted = salt.copy()
    salted.update(paths[index].rsplit(b'/', 1)[-1])
    return salted.digest()

  return np.array(sorted(range(len(paths)), key=digest), np.int64)


def _load_validation(
  name: str, root: str, classes: tuple[str, ...]
) -> folder_source.FolderSource:
  val = folders.list_images(os.path.join(root, 'val'))
  paths = val.in_classes()
  if paths:
    labels = folder_source.from_listing(name, 'test', classes, val).labels
  else:
    paths = val.paths.tolist()
    labels = _solution_labels(root, paths, classes)
  order = tfds_order(paths, 'validation')
  return folder_source.FolderSource(
    name,
    'test',
    classes,
    val.root,
    np.array(paths, bytes)[order],
    labels[order],
  )


def _solution_labels(
  root: str, paths: list[bytes], classes: tuple[str, ...]
) -> np.ndarray:
  """Returns the labels of `val/*.JPEG` from Kaggle's table, int32[N]."""
  above = [root] + [os.path.join(root, *['..'] * up) for up in (1, 2, 3)]
  tables = [os.path.normpath(os.path.join(path, _SOLUTION)) for path in above]
  table = next(filter(os.path.isfile, tables), None)
  if table is None:
    raise errors.UserError(
      f'{root}/val does not sort its images into class folders, and'
      f' {_SOLUTION}, which lists their classes, is not at'
      f' {" or ".join(tables)}'
    )
  with open(table, newline='') as file:
    rows = csv.DictReader(file)
    wnids = {row['ImageId']: row['PredictionString'].split()[0] for row in rows}
  label_of = {wnid: label for label, wnid in enumerate(classes)}
  try:
    return np.array(
      [label_of[wnids[os.path.splitext(os.fsdecode(p))[0]]] for p in paths],
      np.int32,
    )
  except KeyError as error:
    raise errors.UserError(
      f'{table}: lists no known class for {error.args[0]}'
    ) from error
