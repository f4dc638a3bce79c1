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
    name: 'digits', the embedded data set; 'folder:/path', images in one folder
      per class (see `folder_source.load_folder`); 'imagenet2012', prepared by
      TFDS or as a folder of the original files (see `imagenet.load_folder`); or
      NAME[/CONFIG][:VERSION], another TFDS data set for image classification
      that has been prepared as ArrayRecord or TFRecord.
    split: 'train', 'valid' or 'test'; for folders also 'all'. If a TFDS data
      set has only one held-out split, it is both 'valid' and 'test'. ImageNet
      has the published splits: 'train' is all 1,281,167 training images,
      'valid' the first 10,000 of them, 'test' the 50,000 validation images.
    data_dir: the folder of TFDS data sets (by default `$TFDS_DATA_DIR`, then
      `~/tensorflow_datasets`; for the digits, the cache), or of ImageNet.

  Returns:
    A `Source`.

  Raises:
    UserError: the data set or the split does not exist, or it is damaged.
  """
  if split not in SPLITS and split != 'all':
    raise errors.UserError(
      f'split {split!r} does not exist; choose one of {", ".join(SPLITS)}'
    )
  if name.startswith(FOLDER_PREFIX):
    return folder_source.load_folder(
      name, name.removeprefix(FOLDER_PREFIX), split
    )
  # Imports TFDS, which folders do not need.
  from nfnets.data import prepared

  return prepared.load_prepared(name, split, data_dir)
