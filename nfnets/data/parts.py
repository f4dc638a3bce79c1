"""Which examples of a prepared data set make up a split."""

from collections.abc import Mapping
from typing import NamedTuple

from nfnets import errors
from nfnets.data import imagenet

_VALID = ('validation', 'valid', 'val')
_WANTED = {
  'valid': (*_VALID, 'dev', 'test'),
  'test': ('test', *_VALID, 'dev'),
}


class Part(NamedTuple):
  """The examples of a TFDS split from `start` to `stop`."""

  split: str
  start: int
  stop: int


def find(
  name: str, split: str, sizes: Mapping[str, int], held_out: float = 0.0
) -> Part:
  """Returns the examples that make up a split.

  'train' is TFDS's train; 'valid' and 'test' are its validation and test, or
  the only one of them that exists. For ImageNet they are as in the NFNet
  papers: 'valid' is the first 10,000 of train, 'test' is validation.

  Args:
    name: the data set's name.
    split: 'train', 'valid' or 'test'.
    sizes: number of examples in each TFDS split.
    held_out: fraction of train that is 'valid' instead of 'train'; 0: none. It
      is the end of train, which TFDS stores in random order.

  Raises:
    UserError: there is no such split, or the data set has a validation split
      beside `held_out`.
  """
  if held_out and split != 'test':
    return _divide_train(name, split, sizes, held_out)
  if name == 'imagenet2012':
    wanted: tuple[str, ...] = ('validation' if split == 'test' else 'train',)
  else:
    wanted = _WANTED.get(split, (split,))
  found = next((key for key in wanted if key in sizes), None)
  if found is None:
    raise errors.UserError(
      f'{name} has no split for {split!r}; it has {", ".join(sizes)}'
    )
  stop = sizes[found]
  if name == 'imagenet2012' and split == 'valid':
    stop = min(stop, imagenet.VALID_SIZE)
  return Part(found, 0, stop)


def _divide_train(
  name: str, split: str, sizes: Mapping[str, int], held_out: float
) -> Part:
  """Returns the start of train, or its end as the validation split."""
  own = [key for key in _WANTED['valid'] if key in sizes]
  if own != ['test'] or 'train' not in sizes:
    raise not_divisible(name, held_out, f'it has {", ".join(sizes)}')
  stop = sizes['train']
  middle = stop - max(1, round(held_out * stop))
  if split == 'train':
    return Part('train', 0, middle)
  return Part('train', middle, stop)


def not_divisible(name: str, held_out: float, reason: str) -> errors.UserError:
  """Returns the error that a data set cannot be divided further.

  Args:
    name: the data set's name.
    held_out: the fraction to hold out.
    reason: the splits that it has.
  """
  return errors.UserError(
    f'config.data.held_out is {held_out:g}, which needs a data set with the'
    f' splits train and test and no other; {reason} ({name}): set it to 0'
  )
