"""Names of the 1000 classes of ImageNet, in the order of the outputs.

`imagenet_classes.txt` has a line per class: the id of its WordNet synset and
the synset's words. The classes are those of ILSVRC 2012, sorted by id, which
is the order that all published networks use.
"""

import functools
from importlib import resources


@functools.cache
def imagenet() -> tuple[str, ...]:
  """The first word of every synset; two names occur twice, as in WordNet."""
  file = resources.files('nfnets.weights').joinpath('imagenet_classes.txt')
  lines = file.read_text().splitlines()
  return tuple(line.split(' ', 1)[1].split(',')[0] for line in lines)


def of(num_classes: int, written: tuple[str, ...]) -> tuple[str, ...]:
  """Names for a classifier's outputs.

  Args:
    num_classes: how many.
    written: those in the file of weights, if any.

  Returns:
    `written` where there is one for each class; else ImageNet's for 1000
    classes, else 'class 0', 'class 1', ...
  """
  if len(written) == num_classes:
    return written
  if num_classes == 1000:
    return imagenet()
  return tuple(f'class {number}' for number in range(num_classes))
