"""The data that a run was trained on, as its checkpoints describe it."""

import logging
import pathlib
from collections.abc import Mapping
from typing import Any, TypedDict, TypeGuard

from nfnets import errors

_log = logging.getLogger(__name__)
_COUNTS = ('train_images', 'eval_images')


class Dataset(TypedDict):
  """The data that a run is trained and evaluated on."""

  name: str
  class_names: list[str]
  """In the order of the labels."""
  train_images: int
  eval_images: int


def is_dataset(value: Any) -> TypeGuard[Dataset]:
  """Returns whether a value read from JSON describes a data set."""
  if not isinstance(value, dict):
    return False
  names, counts = value.get('class_names'), map(value.get, _COUNTS)
  return (
    isinstance(value.get('name'), str)
    and isinstance(names, list)
    and all(isinstance(name, str) for name in names)
    and all(type(n) is int and n >= 0 for n in counts)
  )


def changes(old: Dataset, new: Dataset) -> str:
  """Describes the changes of the data that affect training, '' if none do."""
  before, after = old['class_names'], new['class_names']
  removed = [name for name in before if name not in after]
  added = [name for name in after if name not in before]
  parts = [
    f'{what}: {errors.listed(names, 5)}'
    for what, names in (('removed classes', removed), ('new classes', added))
    if names
  ]
  if before != after:
    return '; '.join(parts) or 'the classes have another order'
  if old['train_images'] != new['train_images']:
    return f'training images: {old["train_images"]} -> {new["train_images"]}'
  return ''


def check(
  path: pathlib.Path,
  dataset: Dataset | None,
  stored: Dataset | None,
  config: Mapping[str, Any] | None,
) -> None:
  """Refuses a checkpoint that was trained on other data than `dataset`.

  A checkpoint of an older version contains only the data set's name, with the
  settings. A change of the held-out images is logged: it does not affect
  training.

  Args:
    path: the checkpoint, for messages.
    dataset: the run's data; None is not compared.
    stored: the checkpoint's data; None if an older version wrote it.
    config: the settings in the checkpoint.

  Raises:
    UserError: the classes or the number of training images differ, or they are
      unknown and the data set has another name.
  """
  if dataset is None:
    return
  if stored is None:
    name = (config or {}).get('dataset', dataset['name'])
    if name != dataset['name']:
      raise errors.UserError(
        f'checkpoint {path} was trained on {name}, and its classes are unknown,'
        ' as an older version wrote it: use the same data set, or choose'
        ' another --workdir'
      )
    return
  if changed := changes(stored, dataset):
    raise errors.UserError(
      f'checkpoint {path} was trained on other data than'
      f' {dataset["name"]} ({changed}): restore the data set, or choose another'
      ' --workdir'
    )
  before, after = stored['eval_images'], dataset['eval_images']
  if before != after:
    _log.warning(
      'held-out images: %d -> %d since checkpoint %s: the metrics before and'
      ' after it are not comparable',
      before,
      after,
      path,
    )
