"""Opens a data set by its name."""

import os

import numpy as np

from nfnets import errors, files
from nfnets.data import folder_source
from nfnets.data.source import Source

SPLITS = ('train', 'valid', 'test')
ALIASES = {'val': 'valid', 'validation': 'valid'}
"""Other names of splits."""
FOLDER_PREFIX = 'folder:'
_STARTS_OF_PATHS = ('/', './', '../', '~')


def check_paths(name: str, data_dir: str | os.PathLike | None) -> None:
  """Checks the paths in a data set's name and in `data_dir`; opens nothing.

  Args:
    name: see `load_source`.
    data_dir: see `load_source`.

  Raises:
    UserError: one of them is a URL, or contains a variable that is not set.
  """
  if name.startswith(FOLDER_PREFIX):
    files.user_path(name.removeprefix(FOLDER_PREFIX), 'dataset')
  else:
    files.refuse_url(name, 'dataset')
  if data_dir:
    files.user_path(data_dir, 'data_dir')


def load_source(
  name: str,
  split: str,
  data_dir: str | os.PathLike | None = None,
  held_out: float = 0.0,
) -> Source:
  """Opens a split of a data set.

  Args:
    name: 'digits', the embedded data set; 'folder:/path', images in one folder
      per class (see `folder_source.load_folder`); 'imagenet2012', prepared by
      TFDS or as a folder of the original files (see `imagenet.load_folder`); or
      NAME[/CONFIG][:VERSION], another TFDS data set for image classification
      that has been prepared as ArrayRecord or TFRecord.
    split: 'train', 'valid' (also 'val' or 'validation') or 'test'; for folders
      also 'all'. If a data set has only one held-out split, it is both 'valid'
      and 'test'. ImageNet has the published splits: 'train' is all 1,281,167
      training images, 'valid' the first 10,000 of them, 'test' the 50,000
      validation images.
    data_dir: the folder of TFDS data sets (by default `$TFDS_DATA_DIR`, then
      `~/tensorflow_datasets`; for the digits, the cache), or of ImageNet. As
      in 'folder:/path', `~` and `$VARIABLES` are expanded.
    held_out: fraction of the training images that is 'valid' instead, if the
      data set has a test split but no validation split; 0: none.

  Returns:
    A `Source`.

  Raises:
    UserError: the data set or the split does not exist, it is damaged, or it
      has a validation split of its own beside `held_out`.
  """
  split = ALIASES.get(split, split)
  if split not in SPLITS and split != 'all':
    raise errors.UserError(
      f'split {split!r} does not exist; choose one of {", ".join(SPLITS)}'
    )
  check_paths(name, data_dir)
  if name.startswith(FOLDER_PREFIX):
    return folder_source.load_folder(
      name, name.removeprefix(FOLDER_PREFIX), split, held_out
    )
  if name.startswith(_STARTS_OF_PATHS):
    raise errors.UserError(
      f'{name} is a path, not the name of a data set; for a folder of images,'
      f' write {FOLDER_PREFIX}{name}'
    )
  # Imports TFDS, which folders do not need.
  from nfnets.data import prepared

  folder = files.user_path(data_dir, 'data_dir') if data_dir else None
  return prepared.load_prepared(name, split, folder, held_out)


def labels(source: Source, setting: str) -> np.ndarray:
  """Returns the label of every example, if known without reading the images.

  Args:
    source: a split.
    setting: what needs the labels, for the message.

  Returns:
    int32[N].

  Raises:
    UserError: they are not known.
  """
  found = getattr(source, 'labels', None)
  if found is None:
    raise errors.UserError(
      f'{setting} needs the label of every image, which only folders of images'
      f' list, not {source.name}: set it to its default, or use'
      f' {FOLDER_PREFIX}/path'
    )
  return found
