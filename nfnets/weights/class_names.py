"""Class names of a classifier, ImageNet's in particular.

Each line of `imagenet_classes.txt` holds the WordNet id of a synset and its
words. The classes are those of ILSVRC 2012 sorted by id, the output order of
all published networks.
"""

import functools
from importlib import resources


@functools.cache
def imagenet() -> tuple[str, ...]:
  """Returns the first word of each of ImageNet's 1000 synsets.

  Two names occur twice, as they do in WordNet.
  """
  file = resources.files('nfnets.weights').joinpath('imagenet_classes.txt')
  lines = file.read_text().splitlines()
  return tuple(line.split(' ', 1)[1].split(',')[0] for line in lines)


def resolve(num_classes: int, stored: tuple[str, ...]) -> tuple[str, ...]:
  """Returns one name per class.

  Args:
    num_classes: number of classes.
    stored: the names in the weights file; may be empty.

  Returns:
    `stored` if it has one name per class; otherwise ImageNet's names for 1000
    classes and 'class 0', 'class 1', ... for any other number.
  """
  if len(stored) == num_classes:
    return stored
  if num_classes == 1000:
    return imagenet()
  return tuple(f'class {number}' for number in range(num_classes))
