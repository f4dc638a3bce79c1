"""Compares the classes of a data set with those of a network, by name."""

import logging
from collections.abc import Sequence

from nfnets import errors
from nfnets.data import relabeled, sources
from nfnets.data import source as source_lib
from nfnets.training import dataset as dataset_lib
from nfnets.training import devices
from nfnets.weights import class_names

_log = logging.getLogger(__name__)
_SHOWN = 3  # class names in a message


def describe(
  source: source_lib.Source, eval_source: source_lib.Source
) -> dataset_lib.Dataset:
  """Describes the data of a run, to store in its checkpoints.

  Args:
    source: the split to train on.
    eval_source: the split to evaluate on.
  """
  return {
    'name': source.name,
    'class_names': list(source.class_names),
    'train_images': len(source),
    'eval_images': len(eval_source),
  }


def align(
  source: source_lib.Source, known: Sequence[str], what: str
) -> source_lib.Source:
  """Gives the examples of a split the labels of a network's classes.

  Classes are compared by name, so their order does not matter and some may be
  missing. If either side has no names, they are compared by number, which is
  logged.

  Args:
    source: the split.
    known: the name of each of the network's classes, from
      `class_names.resolve`.
    what: the network's file, for messages.

  Returns:
    The split; its classes are the network's.

  Raises:
    UserError: a class is unknown, or there are no names and the numbers of
      classes differ.
  """
  found = class_names.find(known, source.class_names)
  labels = [label for label in found if label is not None]
  if len(labels) == len(found):
    if labels == list(range(len(known))):
      return source
    return relabeled.RelabeledSource(source, labels, known)
  if not _has_names(source):
    _check_count(source, known, f'{source.name} has no class names')
  elif not class_names.are_assumed(known):
    raise _unknown(source, known, what)
  elif tuple(known) != class_names.imagenet():
    _check_count(source, known, f'{what} has no class names')
  elif labels or source.num_classes != len(known):
    raise _unknown(source, known, f'{what} (no names, so ImageNet)')
  else:
    _check_count(source, known, f'{what} has no class names')
  return source


def _has_names(source: source_lib.Source) -> bool:
  """Returns whether the class names are more than TFDS's default numbers."""
  numbers = tuple(map(str, range(source.num_classes)))
  is_folder = source.name.startswith(sources.FOLDER_PREFIX)
  return is_folder or source.class_names != numbers


def _check_count(
  source: source_lib.Source, known: Sequence[str], reason: str
) -> None:
  """Compares the numbers of classes and reports that nothing else was."""
  if source.num_classes != len(known):
    raise errors.UserError(
      f'{reason}, and {source.name} has {source.num_classes} classes where the'
      f' network has {len(known)}: choose weights for this data set'
    )
  if devices.is_primary():
    _log.warning('%s: classes are compared by number', reason)


def _unknown(
  source: source_lib.Source, known: Sequence[str], what: str
) -> errors.UserError:
  found = class_names.find(known, source.class_names)
  unknown = [
    repr(name)
    for name, label in zip(source.class_names, found, strict=True)
    if label is None
  ]
  subject = 'class' if len(unknown) == 1 else 'classes'
  strange, ours = (errors.listed(x, _SHOWN) for x in (unknown, known))
  return errors.UserError(
    f'{source.name}: unknown {subject} {strange}; the {len(known)} classes of'
    f' {what} are {ours}: remove the folder, or choose other weights'
  )
