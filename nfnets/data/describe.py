"""Describes a data set: counts, class balance, sizes, unreadable images."""

from collections.abc import Iterator
from concurrent import futures
from typing import NamedTuple

import numpy as np

from nfnets import errors
from nfnets.data import crops, images, progress, sources, unreadable
from nfnets.data import source as source_lib
from nfnets.runtime import cores

_SHOWN_CLASSES = 8
_SAMPLE_SIZE = 144


class Report(NamedTuple):
  """A description of a split."""

  split: str
  examples: int
  """Number of examples in the split."""
  class_counts: np.ndarray
  """int64[classes], number of examples read per class."""
  sizes: np.ndarray
  """int64[read, 2], height and width in pixels."""
  unreadable: list[unreadable.Unreadable]


def open_splits(
  name: str, data_dir: str | None
) -> tuple[dict[str, source_lib.Source], dict[str, str]]:
  """Opens the splits of a data set.

  Args:
    name: see `sources.load_source`.
    data_dir: see `sources.load_source`.

  Returns:
    The sources by split, and for each split without one, the reason.

  Raises:
    UserError: no split can be opened.
  """
  opened: dict[str, source_lib.Source] = {}
  refused: dict[str, str] = {}
  for split in sources.SPLITS:
    try:
      opened[split] = sources.load_source(name, split, data_dir)
    except errors.UserError as error:
      refused[split] = str(error)
  if not opened:
    raise errors.UserError(refused['train'])
  return opened, refused


def examine(source: source_lib.Source, limit: int | None = None) -> Report:
  """Reads and decodes the examples of a split.

  Args:
    source: the split.
    limit: largest number of examples to read, evenly spaced; None for all.

  Raises:
    UserError: a label is out of range, or a record file is damaged.
  """
  count = len(source) if limit is None else min(limit, len(source))
  indices = spread(len(source), count)
  labels, sizes, bad = [], [], []
  for found in progress.track(
    _examine_each(source, indices), count, f'reading {source.split}', 'images'
  ):
    if isinstance(found, unreadable.Unreadable):
      bad.append(found)
    else:
      labels.append(found[0])
      sizes.append(found[1])
  class_counts = np.bincount(
    np.array(labels, np.int64), minlength=source.num_classes
  )
  shape = np.array(sizes, np.int64).reshape(-1, 2)
  return Report(source.split, len(source), class_counts, shape, bad)


def spread(length: int, count: int) -> list[int]:
  """Returns `count` evenly spaced indices below `length`."""
  return [i * length // count for i in range(count)]


def _examine_each(
  source: source_lib.Source, indices: list[int]
) -> Iterator[unreadable.Unreadable | tuple[int, tuple[int, int]]]:
  """Yields each example's label and size, or why it is unreadable, in order."""

  def examine_one(
    index: int,
  ) -> unreadable.Unreadable | tuple[int, tuple[int, int]]:
    size = [(0, 0)]

    def measure(data: bytes | np.ndarray) -> None:
      height, width = images.decode(data).shape[:2]
      size[0] = height, width

    try:
      return unreadable.read(source, index, measure), size[0]
    except source_lib.UnreadableError as error:
      return unreadable.Unreadable(error.id, error.reason)

  chunk = 1024  # Limits the number of futures that exist at a time.
  with futures.ThreadPoolExecutor(cores.available()) as threads:
    for start in range(0, len(indices), chunk):
      yield from threads.map(examine_one, indices[start : start + chunk])


def samples(
  source: source_lib.Source, count: int
) -> tuple[np.ndarray, list[str]]:
  """Returns evenly spaced images of a split, without the unreadable ones.

  Args:
    source: the split.
    count: largest number of images.

  Returns:
    Center crops, uint8[n, 144, 144, 3], and the names of their n classes.

  Raises:
    UserError: none of these images can be read.
  """
  count = min(count, len(source))
  out = np.zeros((count, _SAMPLE_SIZE, _SAMPLE_SIZE, 3), np.uint8)
  names: list[str] = []
  for index in spread(len(source), count):

    def show(data: bytes | np.ndarray) -> None:
      crops.eval_crop(data, out[len(names)], 'deepmind_crop', 1.0, 'center')

    try:
      label = unreadable.read(source, index, show)
    except source_lib.UnreadableError as error:
      last = error
      continue
    names.append(source.class_names[label])
  if not names:
    raise errors.UserError(
      f'{source.name}, split {source.split}: none of {count} images can be'
      f' read, so there are no samples; for example, {last.id}: {last.reason}'
    )
  return out[: len(names)], names


def report_lines(report: Report, class_names: tuple[str, ...]) -> list[str]:
  """Formats a report as lines of text."""
  read = int(report.class_counts.sum())
  examined = read + len(report.unreadable)
  all_read = '' if examined == report.examples else f', {examined} of them read'
  lines = [f'{report.split}: {report.examples} examples{all_read}']
  if read:
    lines += [
      f'  class balance: {_balance(report.class_counts, class_names)}',
      f'  height, pixels: {_statistics(report.sizes[:, 0])}',
      f'  width, pixels: {_statistics(report.sizes[:, 1])}',
    ]
  if not read and report.unreadable:
    entry = report.unreadable[0]
    lines.append(
      f'  unreadable: all {examined}, such as {entry.id}: {entry.reason}'
    )
  else:
    lines.append(f'  unreadable: {len(report.unreadable)}')
    lines += [f'    {entry.id}: {entry.reason}' for entry in report.unreadable]
  return [errors.printable(line) for line in lines]


def _balance(counts: np.ndarray, class_names: tuple[str, ...]) -> str:
  least, most = int(np.argmin(counts)), int(np.argmax(counts))
  line = (
    f'{counts[least]} ({class_names[least]}) to {counts[most]}'
    f' ({class_names[most]}) examples a class, mean {counts.mean():.1f}'
  )
  if len(counts) <= _SHOWN_CLASSES + 4:
    pairs = zip(class_names, counts.tolist(), strict=True)
    line += '; ' + ', '.join(f'{name}: {count}' for name, count in pairs)
  return line


def class_line(class_names: tuple[str, ...]) -> str:
  """Formats the number of classes and the first few names."""
  shown = errors.listed(class_names, _SHOWN_CLASSES)
  return errors.printable(f'{len(class_names)} classes: {shown}')


def _statistics(sides: np.ndarray) -> str:
  low, median, high = np.percentile(sides, [0, 50, 100])
  return (
    f'{low:.0f} to {high:.0f}, median {median:.0f}, mean {sides.mean():.1f}'
  )


def same_examples(one: source_lib.Source, other: source_lib.Source) -> bool:
  """Returns whether two splits of a data set have the same examples.

  Compares their lengths and the ids of three examples.
  """
  if len(one) != len(other):
    return False
  indices = spread(len(one), min(3, len(one)))
  return all(_id(one, i) == _id(other, i) for i in indices)


def _id(source: source_lib.Source, index: int) -> str:
  try:
    return source[index]['id']
  except source_lib.UnreadableError as error:
    return error.id
