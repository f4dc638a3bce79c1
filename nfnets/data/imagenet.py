"""ImageNet (ILSVRC 2012) as a folder of its original files.

The images are put in the order in which TFDS prepares them, so that either
form of ImageNet holds the same image at the same place, and "the first 10,000
of train" are the published validation images in both.
"""

import csv
import hashlib
import os
import re

import numpy as np

from nfnets import errors
from nfnets.data import folder_source, folders

VALID_SIZE = 10_000
"""The published 'valid' split: the first images of 'train'."""

_WNID = re.compile(r'n\d{8}')
# From the folder that somebody names to the one that holds train and val.
_BELOW = ('', 'ILSVRC/Data/CLS-LOC', 'Data/CLS-LOC', 'imagenet', 'imagenet2012')
_SOLUTION = 'LOC_val_solution.csv'


def find_folder(root: str) -> str | None:
  """The folder at or below `root` that holds `train/n01440764` and the like."""
  for below in _BELOW:
    train = os.path.join(root, below, 'train')
    if os.path.isdir(train):
      with os.scandir(train) as entries:
        if any(_WNID.fullmatch(entry.name) for entry in entries):
          return os.path.dirname(train)
  return None


def load_folder(name: str, root: str, split: str) -> folder_source.FolderSource:
  """Opens a split of ImageNet's original files.

  Args:
    name: of the source.
    root: holds `train/WNID/*.JPEG`, and `val/WNID/*.JPEG` or `val/*.JPEG`; the
      latter with LOC_val_solution.csv, as Kaggle has it, in a folder above.
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
  """The order in which TFDS stores examples whose keys are file names.

  It sorts them by the MD5 hash of the split's name and the key.

  Args:
    paths: of the files; only the last part counts.
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
  """The labels of `val/*.JPEG` from Kaggle's table, int32[N]."""
  above = [root] + [os.path.join(root, *['..'] * up) for up in (1, 2, 3)]
  places = [os.path.normpath(os.path.join(place, _SOLUTION)) for place in above]
  place = next(filter(os.path.isfile, places), None)
  if place is None:
    raise errors.UserError(
      f'{root}/val holds its images in no folders of classes, and {_SOLUTION},'
      f' which tells their classes, is not at {" or ".join(places)}'
    )
  with open(place, newline='') as file:
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
      f'{place}: nothing there tells the class of {error.args[0]}'
    ) from error
