"""Class names of a classifier, ImageNet's in particular.

Each line of `imagenet_classes.txt` holds the WordNet id of a synset and its
words. The classes are those of ILSVRC 2012 sorted by id, the output order of
all published networks.
"""

import collections
import functools
from collections.abc import Sequence
from importlib import resources


@functools.cache
def _synsets() -> tuple[tuple[str, str], ...]:
  """Returns the WordNet id and the first word of each synset."""
  file = resources.files('nfnets.weights').joinpath('imagenet_classes.txt')
  lines = [line.split(' ', 1) for line in file.read_text().splitlines()]
  return tuple((wnid, words.split(',')[0]) for wnid, words in lines)


def imagenet() -> tuple[str, ...]:
  """Returns the first word of each of ImageNet's 1000 synsets.

  Two names occur twice, as they do in WordNet.
  """
  return tuple(word for _, word in _synsets())


def imagenet_ids() -> tuple[str, ...]:
  """Returns the WordNet ids of ImageNet's 1000 synsets."""
  return tuple(wnid for wnid, _ in _synsets())


def resolve(num_classes: int, stored: tuple[str, ...]) -> tuple[str, ...]:
  """Returns one name per class.

  Args:
    num_classes: number of classes.
    stored: the names in the weights file; may be empty.

  Returns:
    `stored` if it has one name per class, with the words for ImageNet's ids;
    otherwise ImageNet's names for 1000 classes and 'class 0', 'class 1', ...
    for any other number.
  """
  if len(stored) == num_classes and stored != imagenet_ids():
    return stored
  if num_classes == 1000:
    return imagenet()
  return tuple(f'class {number}' for number in range(num_classes))


def are_assumed(names: Sequence[str]) -> bool:
  """Returns whether `resolve` can have chosen names that were not stored."""
  return tuple(names) == resolve(len(names), ())


def find(known: Sequence[str], names: Sequence[str]) -> list[int | None]:
  """Finds classes by name.

  Args:
    known: one name per class. ImageNet's classes are found by their WordNet ids
      too.
    names: the names to find.

  Returns:
    The class of each name, None if it is unknown or ambiguous.
  """
  if tuple(known) == tuple(names):
    return list(range(len(known)))
  counts = collections.Counter(known)
  classes = {name: i for i, name in enumerate(known) if counts[name] == 1}
  if tuple(known) == imagenet():
    classes |= {wnid: i for i, wnid in enumerate(imagenet_ids())}
  return [classes.get(name) for name in names]
