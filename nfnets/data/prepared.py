"""Prepared TFDS data sets (ArrayRecord or TFRecord), without TensorFlow."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds

from nfnets import errors, files
from nfnets.data import imagenet, imagenet_tests, parts, tfrecord
from nfnets.data import source as source_lib
from nfnets.data.digits import preparation


class _Records(Protocol):
  """Random access to the features of examples, images still encoded."""

  def __getitem__(self, index: int) -> dict[str, Any]: ...


class RecordSource:
  """Examples that TFDS stored in record files."""

  def __init__(
    self,
    name: str,
    split: str,
    builder: tfds.core.DatasetBuilder,
    part: parts.Part,
  ):
    """Opens a part of a split.

    Args:
      name: the data set's name.
      split: the split's name.
      builder: the prepared data set.
      part: the part of a TFDS split that makes up `split`.

    Raises:
      UserError: the files are missing, damaged, or in an unsupported format.
    """
    self.name = name
    self.split = split
    self._image, self._label = _keys(name, builder.info)
    self.class_names = tuple(builder.info.features[self._label].names)
    self._start, self._length = part.start, part.stop - part.start
    info = builder.info.splits[part.split]
    self._paths = [os.fspath(path) for path in info.filepaths]
    self._stops = np.cumsum(info.shard_lengths)
    self._records = _open_records(builder, part.split, self._paths, self._image)

  @property
  def num_classes(self) -> int:
    """The number of classes; labels are in [0, num_classes)."""
    return len(self.class_names)

  def __len__(self) -> int:
    """Returns the number of examples."""
    return self._length

  def __getitem__(self, index: int) -> source_lib.Example:
    """Reads example `index`; its image stays encoded, its id is file:number.

    Raises:
      UserError: the record file is damaged.
    """
    at = self._start + range(self._length)[index]
    file = int(np.searchsorted(self._stops, at, side='right'))
    number = at - (int(self._stops[file - 1]) if file else 0)
    record_id = f'{self._paths[file]}:{number}'
    try:
      record = self._records[at]
      image, label = record[self._image], record[self._label]
      if image is None or label is None:
        raise ValueError('without an image or a label')
      label = int(label)
    except errors.UserError:
      raise
    except Exception as error:  # The readers document no exception types.
      reason = ' '.join(str(error).split()) or type(error).__name__
      raise errors.UserError(
        f'{self._paths[file]}: record {number} is damaged ({reason}); copy or'
        ' prepare the file again'
      ) from error
    return {'image': image, 'label': label, 'id': record_id}


class _TFRecords:
  """The counterpart of `as_data_source` for TFRecord files."""

  def __init__(
    self,
    builder: tfds.core.DatasetBuilder,
    split: str,
    paths: list[str],
    image: str,
  ):
    self._files = tfrecord.RecordFiles(paths)
    self._features = builder.info.features
    self._decoders = {image: tfds.decode.SkipDecoding()}
    expected = builder.info.splits[split].shard_lengths
    for path, found, count in zip(
      paths, self._files.counts, expected, strict=True
    ):
      if found != count:
        raise errors.UserError(
          f'{path}: {found} records, but {count} according to'
          ' dataset_info.json; copy or prepare the file again'
        )

  def __getitem__(self, index: int) -> dict[str, Any]:
    return self._features.deserialize_example_np(
      self._files[index], decoders=self._decoders
    )


def load_prepared(
  name: str,
  split: str,
  data_dir: pathlib.Path | None,
  held_out: float = 0.0,
) -> source_lib.Source:
  """Opens a prepared TFDS data set (see `sources.load_source`).

  Raises:
    UserError: it is not prepared, damaged, in a folder that cannot be read, or
      cannot be divided further.
  """
  if name == 'digits':
    data_dir = data_dir or files.cache_folder('data')
    return _open(name, split, preparation.prepare(data_dir), held_out)
  if name == 'imagenet2012' and held_out:
    raise parts.not_divisible(name, held_out, 'it has a validation split')
  roots = _roots(data_dir)
  if name == imagenet_tests.REAL:
    imagenet_tests.check_split(name, split)
    images = load_prepared('imagenet2012', 'test', data_dir)
    return imagenet_tests.with_real_labels(images, roots)
  try:
    for root in roots:
      directory = _find(root, name)
      if directory:
        return _open(name, split, directory, held_out)
      if name == 'imagenet2012' and (folder := imagenet.find_folder(str(root))):
        return imagenet.load_folder(name, folder, split)
    if source := imagenet_tests.load(name, split, roots):
      return source
    raise _not_prepared(name, roots)
  except OSError as error:
    raise errors.UserError(
      f'{error.filename}: cannot be read: {error.strerror}'
    ) from error


def _open(
  name: str, split: str, directory: pathlib.Path, held_out: float
) -> RecordSource:
  try:
    builder = tfds.builder_from_directory(os.fspath(directory))
    sizes = {k: v.num_examples for k, v in builder.info.splits.items()}
    part = parts.find(name, split, sizes, held_out)
    return RecordSource(name, split, builder, part)
  except errors.UserError:
    raise
  except Exception as error:  # The reader documents no exception types.
    reason = ' '.join(str(error).split())[:200] or type(error).__name__
    raise errors.UserError(
      f'{directory}: cannot be read as a TFDS data set: {reason}; copy or'
      ' prepare it again, after removing what is there'
    ) from error


def _keys(name: str, info: tfds.core.DatasetInfo) -> tuple[str, str]:
  """Returns the names of the image feature and the class feature."""
  features = dict(info.features.items())
  kinds = (tfds.features.Image, tfds.features.ClassLabel)
  keys = info.supervised_keys or [
    next(
      (key for key, value in features.items() if isinstance(value, kind)), ''
    )
    for kind in kinds
  ]
  for key, kind in zip(keys, kinds, strict=True):
    if not isinstance(features.get(key), kind):
      shown = (f'{k} ({type(v).__name__})' for k, v in features.items())
      raise errors.UserError(
        f'{name} is not an image classification data set: its features are'
        f' {", ".join(shown)}'
      )
  return keys[0], keys[1]


def _open_records(
  builder: tfds.core.DatasetBuilder, split: str, paths: list[str], image: str
) -> _Records:
  """Opens the record files of a TFDS split."""
  missing = next((path for path in paths if not os.path.isfile(path)), None)
  if missing:
    raise errors.UserError(
      f'{missing}: no such file; prepare the data set again'
    )
  file_format = builder.info.file_format.value
  if file_format == 'tfrecord':
    return _TFRecords(builder, split, paths, image)
  if file_format == 'array_record':
    decoders = {image: tfds.decode.SkipDecoding()}
    return builder.as_data_source(split, decoders=decoders)
  raise errors.UserError(
    f'{builder.data_dir}: cannot read the format {file_format}; prepare the'
    ' data set as array_record or tfrecord'
  )


def _roots(data_dir: pathlib.Path | None) -> list[pathlib.Path]:
  """Returns the folders to search for prepared data sets.

  Raises:
    UserError: $TFDS_DATA_DIR is a URL.
  """
  if data_dir:
    return [data_dir]
  named = os.environ.get('TFDS_DATA_DIR')
  home = pathlib.Path('~/tensorflow_datasets').expanduser()
  return [files.user_path(named, 'TFDS_DATA_DIR'), home] if named else [home]


def _find(root: pathlib.Path, name: str) -> pathlib.Path | None:
  """Finds the newest prepared version of NAME[/CONFIG][:VERSION] in a root."""
  base, _, version = name.partition(':')
  found = sorted(
    (root / base).glob(f'{version or "*"}/dataset_info.json'),
    key=lambda path: _version_key(path.parent.name),
  )
  if found:
    return found[-1].parent
  configs = sorted((root / base).glob(f'*/{version or "*"}/dataset_info.json'))
  names = sorted({path.parent.parent.name for path in configs})
  if len(names) > 1:
    raise errors.UserError(
      f'{name} is prepared in several configurations in {root}; choose one:'
      f' {", ".join(f"{base}/{config}" for config in names)}'
    )
  return _find(root, f'{base}/{names[0]}:{version}') if names else None


def _version_key(version: str) -> list[int]:
  return [int(part) if part.isdigit() else -1 for part in version.split('.')]


def _not_prepared(name: str, roots: Sequence[pathlib.Path]) -> errors.UserError:
  """Returns an error that lists the searched folders and how to prepare."""
  searched = ' and '.join(str(root / name) for root in roots)
  if os.path.isdir(name):
    return errors.UserError(
      f'data set {name!r} is not prepared: searched {searched}; for a folder of'
      f' images, write folder:{name}'
    )
  prepared = {p.name for root in roots for p in root.glob('*') if p.is_dir()}
  guess = errors.hint(name, ['digits', *sorted(prepared)])
  # Not `tfds build`, which needs Apache Beam even if it does not use it.
  how = (
    'prepare it in a separate environment: pip install tensorflow'
    ' tensorflow-datasets importlib_resources && python -c "import'
    f" tensorflow_datasets as tfds; tfds.builder('{name}',"
    f" data_dir='{roots[0]}', file_format='array_record')"
    '.download_and_prepare()"'
  )
  if name == 'imagenet2012':
    how = (
      'set data_dir to a folder with train/n01440764/*.JPEG and val/, or '
      f'{how}, with ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in'
      f' {roots[0]}/downloads/manual'
    )
  return errors.UserError(
    f'data set {name!r} is not prepared (searched {searched}){guess}; {how}; or'
    ' use folder:/path/to/images'
  )
