"""TFDS data sets that were prepared before, read without TensorFlow."""

import contextlib
import io
import os
import pathlib
import shutil
import tempfile
from typing import Any

from nfnets import errors
from nfnets.data import cache, sources


class ArrayRecordSource:
  """One split of a TFDS data set prepared as ArrayRecord."""

  def __init__(self, name: str, split: str, builder: Any, tfds_split: str):
    """Opens the split `tfds_split` of `builder` under the name `split`."""
    import tensorflow_datasets as tfds

    self.name = name
    self.split = split
    self.class_names = tuple(builder.info.features['label'].names)
    self._tfds_split = tfds_split
    self._records = builder.as_data_source(
      tfds_split, decoders={'image': tfds.decode.SkipDecoding()}
    )

  @property
  def num_classes(self) -> int:
    """Labels are in [0, num_classes)."""
    return len(self.class_names)

  def __len__(self) -> int:
    """The number of examples."""
    return len(self._records)

  def __getitem__(self, index: int) -> sources.Example:
    """Reads example `index`, image still encoded."""
    record = self._records[index]
    return {
      'image': record['image'],
      'label': int(record['label']),
      'id': f'{self.name}/{self._tfds_split}/{index}',
    }


def load_prepared(
  name: str, split: str, data_dir: str | os.PathLike | None
) -> sources.Source:
  """Opens a prepared TFDS data set (see `sources.load_source`)."""
  import tensorflow_datasets as tfds

  if name != 'digits':
    raise errors.UserError(f'unknown data set {name!r}')
  directory = _prepare_digits(pathlib.Path(data_dir or cache.cache_dir()))
  builder = tfds.builder_from_directory(str(directory))
  return ArrayRecordSource(
    name, split, builder, 'train' if split == 'train' else 'test'
  )


def _prepare_digits(data_dir: pathlib.Path) -> pathlib.Path:
  """Prepares the digits below `data_dir` unless that was done before.

  The files appear under their final name all at once, so that processes which
  do this at the same time, or die in it, do no harm.
  """
  target = data_dir / 'digits' / '1.0.0'
  if target.is_dir():
    return target
  import tensorflow_datasets as tfds

  from nfnets.data.digits import digits_dataset_builder

  target.parent.mkdir(parents=True, exist_ok=True)
  tfds.disable_progress_bar()
  with tempfile.TemporaryDirectory(dir=data_dir, prefix='.digits-') as scratch:
    builder = digits_dataset_builder.Builder(
      data_dir=scratch, file_format='array_record'
    )
    # TFDS announces on stdout a download that there is not.
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare()
    try:
      os.rename(builder.data_dir, target)
    except OSError:
      if not target.is_dir():  # Else another process was first.
        raise
      shutil.rmtree(builder.data_dir)
  return target
