"""Other test sets for networks trained on ImageNet, as they were published.

ImageNet-A and -R have 200 of ImageNet's classes, in folders named by their
WordNet ids. ImageNetV2 has folders named by class numbers, 0 to 999. ReaL has
new labels for the validation images: a list of classes for each, which may be
empty.

References:
  Hendrycks et al, `Natural Adversarial Examples
  <https://arxiv.org/abs/1907.07174>`_, 2021 (ImageNet-A).
  Hendrycks et al, `The Many Faces of Robustness: A Critical Analysis of
  Out-of-Distribution Generalization <https://arxiv.org/abs/2006.16241>`_, 2021
  (ImageNet-R).
  Recht et al, `Do ImageNet Classifiers Generalize to ImageNet?
  <https://arxiv.org/abs/1902.10811>`_, 2019 (ImageNetV2).
  Beyer et al, `Are we done with ImageNet?
  <https://arxiv.org/abs/2006.07159>`_, 2020 (ReaL).
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from nfnets import errors, files
from nfnets.data import folder_source, folders, imagenet
from nfnets.data import source as source_lib

REAL = 'imagenet_real'
"""The validation images with the labels of ReaL."""

_REAL_FILE = 'real.json'
_NUM_CLASSES = 1000
_V2 = 'imagenet_v2'
# Name -> the folders, relative to that of the data, that may hold its classes.
_FOLDERS = {
  'imagenet_a': ('imagenet-a', '.'),
  'imagenet_r': ('imagenet-r', '.'),
  _V2: ('imagenetv2-matched-frequency-format-val', '.'),
}


def has_few_classes(source: source_lib.Source) -> bool:
  """Returns whether only the logits of the split's own classes count.

  As published, the prediction on ImageNet-A and -R is the most likely of the
  200 classes, not of all 1,000.
  """
  return source.name.partition(':')[0] in ('imagenet_a', 'imagenet_r')


def present(source: source_lib.Source) -> list[int]:
  """Returns the classes that have examples in a split, ascending.

  Args:
    source: the split; unless it is a folder, all its examples are read.
  """
  if isinstance(source, folder_source.FolderSource):
    return np.unique(source.labels).tolist()
  return sorted({source[index]['label'] for index in range(len(source))})


def load(
  name: str, split: str, roots: Sequence[pathlib.Path]
) -> folder_source.FolderSource | None:
  """Opens the folder of a test set.

  Args:
    name: the data set's name.
    split: the split's name.
    roots: folders that may hold it, or be it.

  Returns:
    The source; None if the name is another one or there is no such folder.

  Raises:
    UserError: the split is 'train', or a folder is not that of a class.
  """
  for root in roots:
    for below in _FOLDERS.get(name, ()):
      folder = root / below
      if folder.is_dir() and _has_classes(name, folder):
        check_split(name, split)
        listing = folders.list_images(folder)
        return folder_source.from_listing(
          name, split, _classes(name, listing), listing
        )
  return None


def _has_classes(name: str, folder: pathlib.Path) -> bool:
  names = list(folders.subfolders(str(folder)))
  if name == _V2:
    return any(map(str.isdecimal, names))
  return any(map(imagenet.WNID.fullmatch, names))


def _classes(name: str, listing: folders.Listing) -> tuple[str, ...]:
  if name == _V2:
    return tuple(map(str, range(_NUM_CLASSES)))
  return listing.class_names()


def check_split(name: str, split: str) -> None:
  """Checks that a split of a test set is not the training images.

  Raises:
    UserError: it is.
  """
  if split == 'train':
    raise errors.UserError(
      f'{name} is a test set without training images: use it with --mode=eval'
    )


class RealSource:
  """ImageNet's validation images that have labels in ReaL.

  Attributes:
    label_sets: the classes of each example, at least one; the label of an
      example is the first of them.
  """

  name = REAL

  def __init__(
    self, source: source_lib.Source, labels: Sequence[Sequence[int]]
  ):
    """Selects the images with labels.

    Args:
      source: the validation images, N, in the order of TFDS.
      labels: the classes of each of them.
    """
    self.split = source.split
    self.class_names = source.class_names
    self.label_sets = [tuple(classes) for classes in labels if classes]
    self._source = source
    self._indices = [i for i, classes in enumerate(labels) if classes]

  @property
  def num_classes(self) -> int:
    """The number of classes; labels are in [0, num_classes)."""
    return len(self.class_names)

  def __len__(self) -> int:
    """Returns the number of images with labels."""
    return len(self._indices)

  def __getitem__(self, index: int) -> source_lib.Example:
    """Reads example `index`.

    Raises:
      UnreadableError: its file cannot be read.
      UserError: its record file is damaged.
    """
    example = self._source[self._indices[index]]
    return {**example, 'label': self.label_sets[index][0]}


def with_real_labels(
  source: source_lib.Source, roots: Sequence[pathlib.Path]
) -> RealSource:
  """Gives ImageNet's validation images the labels of ReaL.

  Args:
    source: the validation images, in the order of TFDS.
    roots: folders that may hold `real.json`: a list with the list of classes of
      each image, in the order of their file names.

  Raises:
    UserError: there is no such file, it is damaged, or the images are not those
      that it describes.
  """
  paths = [root / _REAL_FILE for root in roots]
  path = next((path for path in paths if path.is_file()), None)
  if path is None:
    raise errors.UserError(
      f'{REAL} needs the labels of ReaL: put {_REAL_FILE} at'
      f' {" or ".join(map(str, paths))}'
    )
  labels = _read_labels(path)
  if len(labels) != len(source):
    raise errors.UserError(
      f'{path}: has labels for {len(labels)} images, but there are'
      f' {len(source)}: restore the images or the file'
    )
  count = len(labels)
  names = [
    b'ILSVRC2012_val_%08d.JPEG' % number for number in range(1, count + 1)
  ]
  order = imagenet.tfds_order(names, 'validation').tolist()
  found = os.path.basename(_id(source, 0))
  if found.endswith('.JPEG') and found != names[order[0]].decode():
    raise errors.UserError(
      f'{source.name}: {found} is not one of the {count} images that {path}'
      ' describes, ILSVRC2012_val_00000001.JPEG and so on: restore their names'
    )
  return RealSource(source, [labels[number] for number in order])


def _id(source: source_lib.Source, index: int) -> str:
  try:
    return source[index]['id']
  except source_lib.UnreadableError as error:
    return error.id


def _read_labels(path: pathlib.Path) -> list[list[int]]:
  """Reads ReaL's lists of classes.

  Raises:
    UserError: the file cannot be read or holds something else.
  """
  try:
    labels = files.read_json(path)
  except (OSError, ValueError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise errors.UserError(
      f'{path} cannot be read ({reason}): download it again'
    ) from error
  is_list = isinstance(labels, list) and all(
    isinstance(classes, list)
    and all(type(x) is int and 0 <= x < _NUM_CLASSES for x in classes)
    for classes in labels
  )
  if not is_list:
    raise errors.UserError(
      f'{path}: is not a list of lists of classes, 0 to {_NUM_CLASSES - 1}:'
      ' download it again'
    )
  return labels
