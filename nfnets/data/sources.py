"""Opens a data set by its name."""

import os

from nfnets import errors
from nfnets.data import folder_source
from nfnets.data.source import Source

SPLITS = ('train', 'valid', 'test')
FOLDER_PREFIX = 'folder:'


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
    return folder_source.load_folder(
      name, name.removeprefix(FOLDER_PREFIX), split
    )
  # Imports TFDS, which folders can do without.
  from nfnets.data import prepared

  return prepared.load_prepared(name, split, data_dir)
