"""How a folder of images is organized: its splits and classes, and mistakes."""

import os
from collections.abc import Iterable

from nfnets import errors
from nfnets.data import folders

_VALID = ('val', 'valid', 'validation', 'dev', 'eval')
_TEST = ('test', 'testing')

NAMES = {
  'train': ('train', 'training'),
  'valid': (*_VALID, *_TEST),
  'test': (*_TEST, *_VALID),
}
"""Names of the folders for each split, best match first; case is ignored."""

_SHOWN = 5


def divide(
  root: str, split: str
) -> tuple[folders.Listing, folders.Listing | None]:
  """Finds the folders of the splits.

  Args:
    root: the folder.
    split: 'train', 'valid' or 'test'.

  Returns:
    The images of `train`, or of the whole folder if it is not divided; those of
    the held-out folder that matches the split's name best, if there is one.

  Raises:
    UserError: a validation folder is not divided into classes.
  """
  at = {name.lower(): path for name, path in folders.subfolders(root).items()}
  train = _first(at, NAMES['train'])
  if not train:
    return folders.list_images(root), None
  held_out = _first(at, NAMES['test' if split == 'test' else 'valid'])
  instead = '' if held_out else f', and a tenth of {train.root} is held out'
  for name, path in at.items():
    if name not in NAMES['train']:
      _report_unused(name, folders.list_images(path), instead)
  return train, held_out


def check_divisible(root: str) -> None:
  """Checks that part of `train` can become the validation split.

  Args:
    root: the folder.

  Raises:
    UserError: there is a validation folder, or no test folder.
  """
  at = {name.lower(): path for name, path in folders.subfolders(root).items()}
  own, test = _first(at, _VALID), _first(at, _TEST)
  if own:
    raise errors.UserError(
      f'config.data.held_out: {root} has a validation folder, {own.root}: set'
      ' held_out to 0, or move the folder away'
    )
  if not test or not _first(at, NAMES['train']):
    raise errors.UserError(
      f'config.data.held_out: {root} has no folders train and test with folders'
      ' of classes: set held_out to 0 (if there is no held-out folder, a tenth'
      ' of each class is held out)'
    )


def _first(at: dict[str, str], names: Iterable[str]) -> folders.Listing | None:
  """Lists the first of some folders that is divided into classes."""
  found = (folders.list_images(at[name]) for name in names if name in at)
  return next((listing for listing in found if listing.in_classes()), None)


def _report_unused(name: str, listing: folders.Listing, instead: str) -> None:
  """Warns if a folder beside `train` is not used.

  Args:
    name: the folder's name, in lower case.
    listing: its images.
    instead: what is held out, if there is no held-out folder.

  Raises:
    UserError: it would be the held-out folder if it were divided into classes.
  """
  number = len(listing.paths)
  images = f'its images, such as {_first_image(listing)} ({number} in all), are'
  if name not in NAMES['valid']:
    if number:
      folders.warn_once(f'{listing.root}: not a split, so {images} not used')
  elif not number:
    endings = folders.described_endings(listing)
    folders.warn_once(f'{listing.root}: no image {endings}{instead}')
  elif not listing.in_classes():
    if instead and name in _VALID:
      raise errors.UserError(
        f'{listing.root}: {images} not in folders of their classes: move them'
        f' to {listing.root}/CLASS/, or remove this folder to hold out a tenth'
        ' of the training images'
      )
    folders.warn_once(
      f'{listing.root}: {images} not used, since they are not in'
      f' {listing.root}/CLASS/{instead}'
    )


def _first_image(listing: folders.Listing) -> str:
  return os.fsdecode(next(iter(listing.paths), b''))


def classes(listing: folders.Listing) -> tuple[str, ...]:
  """Returns the names of the classes.

  Raises:
    UserError: there are none.
  """
  names = listing.class_names()
  if not names:
    root = listing.root
    raise errors.UserError(
      f'{root}: no classes: images must be in {root}/CLASS/ or below it'
      f' {folders.described_endings(listing)}; {len(listing.paths)} are outside'
      ' of any class'
    )
  warn_of_unused(listing)
  return names


def warn_of_unused(listing: folders.Listing) -> None:
  """Warns of folders without images, and of images that are in no class."""
  root, names = listing.root, listing.class_names()
  empty = sorted(folders.subfolders(root).keys() - set(names))
  if empty:
    folders.warn_once(
      f'{root}: not classes, since they contain no image: {_shown(empty)}'
    )
  outside = [path for path in listing.paths.tolist() if b'/' not in path]
  if outside:
    folders.warn_once(
      f'{root}: images outside of the classes are left out: {len(outside)},'
      f' such as {os.fsdecode(outside[0])}'
    )
  folders.warn_of_unread(listing)


def training_classes(
  listing: folders.Listing, root: str, one_is_enough: bool
) -> tuple[str, ...]:
  """Returns the names of the classes to train on.

  Args:
    listing: the training images, or those of the whole folder.
    root: the folder that the user gave.
    one_is_enough: whether a single class is allowed, as in an evaluation.

  Raises:
    UserError: there is none or only one, or the folders are not classes.
  """
  names = classes(listing)
  if len(names) == 1:
    _check_nesting(listing, root)
  _check_splits(listing, names)
  if len(names) == 1 and not one_is_enough:
    raise errors.UserError(
      f'{listing.root}: only one class, {names[0]!r}; a classifier needs two:'
      f' put the images of each into {listing.root}/CLASS/ (to evaluate on one'
      ' class, set config.data.eval_split=all)'
    )
  return names


def _check_nesting(listing: folders.Listing, root: str) -> None:
  """Checks that the classes are not below the folder of the only class."""
  inner, below = _branching(listing)
  if len(below) > 1:
    at = os.path.join(listing.root, inner)
    remedy = (
      f'write folder:{at}'
      if listing.root == root
      else f'move them from {at} to {listing.root}'
    )
    raise errors.UserError(
      f'{listing.root}: only one class, {listing.class_names()[0]!r}, but {at}'
      f' contains {len(below)} folders of images ({_shown(below)}): if these'
      f' are the classes, {remedy}'
    )


def _check_splits(listing: folders.Listing, names: tuple[str, ...]) -> None:
  """Checks that no split is a class, and that splits are above the classes."""
  splits = {*NAMES['train'], *NAMES['valid']}
  if splits.issuperset(map(str.lower, names)):
    raise errors.UserError(
      f'{listing.root}: no classes, only splits ({_shown(names)}): images must'
      f' be in {listing.root}/train/CLASS/ and, if any are held out,'
      f' {listing.root}/val/CLASS/'
    )
  below: dict[bytes, set[str]] = {}
  for path in listing.in_classes():
    name, *folder, _ = path.split(b'/')
    if folder:
      below.setdefault(name, set()).add(os.fsdecode(folder[0]).lower())
  for name, inner in below.items():
    if inner & {*NAMES['train']} and inner & {*NAMES['valid']}:
      at = os.path.join(listing.root, os.fsdecode(name))
      raise errors.UserError(
        f'{at} contains the splits {_shown(sorted(inner))}, which would be'
        f' mixed: images must be in {listing.root}/train/CLASS/ and'
        f' {listing.root}/val/CLASS/'
      )


def _branching(listing: folders.Listing) -> tuple[str, list[str]]:
  """Returns the deepest folder above all classes, and its subfolders' names."""
  above = [os.path.dirname(path) for path in listing.in_classes()]
  inner = os.path.commonpath(above)
  deeper = {path[len(inner) + 1 :].split(b'/')[0] for path in above}
  return os.fsdecode(inner), sorted(map(os.fsdecode, deeper - {b''}))


def _shown(names: tuple[str, ...] | list[str]) -> str:
  more = len(names) - _SHOWN
  shown = ', '.join(names[:_SHOWN])
  return f'{shown} and {more} more' if more > 0 else shown
