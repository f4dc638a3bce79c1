"""A data set by name: random access to its encoded images, by split."""

import os
from typing import Protocol, TypedDict

import numpy as np

from nfnets import errors

SPLITS = ('train', 'valid', 'test')
FOLDER_PREFIX = 'folder:'


class UnreadableError(Exception):
  """The image of an example cannot be read or decoded."""

  def __init__(self, id: str, reason: str):
    """Names the example, as `Example.id` does, and says what is wrong."""
    super().__init__(id, reason)
    self.id = id
    self.reason = reason


class Example(TypedDict):
  """One stored example."""

  image: bytes | np.ndarray
  """The encoded file, or uint8[H, W, 3]."""
  label: int
  id: str
  """Names the example in messages: its file, or record file and number."""


class Source(Protocol):
  """Random access to one split; picklable, safe to read from threads."""

  name: str
  split: str
  class_names: tuple[str, ...]

  @property
  def num_classes(self) -> int:
    """Labels are in [0, num_classes)."""

  def __len__(self) -> int:
    """The number of examples."""

  def __getitem__(self, index: int) -> Example:
    """Reads example `index`, image still encoded.

    Raises:
      UnreadableError: its file cannot be read.
      UserError: its record file is damaged.
    """


def load_source(
  name: str, split: str, data_dir: str | os.PathLike | None = None
) -> Source:
  """Opens a split of a data set.

  Args:
    name: 'digits', the embedded data set; 'folder:/path', images in folders by
      class (see `folder_source.load_folder`); 'imagenet2012', prepared by TFDS
      or as a folder of the original files (see `imagenet.load_folder`); or any
      other TFDS data set for image classification that has been prepared as
      ArrayRecord or TFRecord, NAME[/CONFIG][:VERSION].
    split: 'train', 'valid' or 'test'; for folders also 'all'. TFDS data sets
      with one held-out split have it under both names. ImageNet's are the
      published ones: all 1,281,167 images to train, the first 10,000 of them
      as 'valid', the 50,000 validation images as 'test'.
    data_dir: the folder of TFDS data sets (by default `$TFDS_DATA_DIR`, then
      `~/tensorflow_datasets`; for the digits the cache), or of ImageNet.

  Returns:
    A `Source`.

  Raises:
    UserError: the data set or the split is not there, or it is damaged.
  """
  if split not in SPLITS and split != 'all':
    raise errors.UserError(
      f'split {split!r} does not exist; choose one of {", ".join(SPLITS)}'
    )
  if name.startswith(FOLDER_PREFIX):
    from nfnets.data import folder_source

    return folder_source.load_folder(
      name, name.removeprefix(FOLDER_PREFIX), split
    )
  # Imports TFDS, which folders can do without.
  from nfnets.data import prepared

  return prepared.load_prepared(name, split, data_dir)
