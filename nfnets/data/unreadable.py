"""Images that cannot be read: reported once, counted, replaced or skipped."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from nfnets import errors
from nfnets.data import images
from nfnets.data import source as source_lib

_LOG = logging.getLogger(__name__)


class Unreadable(NamedTuple):
  """An example with an unreadable image."""

  id: str
  reason: str


class Policy(NamedTuple):
  """How many unreadable images a run tolerates."""

  strict: bool
  """Whether the first one is an error."""
  max_share: float
  """The tolerated fraction of the examples."""

  def limit(self, num_examples: int) -> int:
    """Returns the largest tolerated number of unreadable examples."""
    return int(self.max_share * num_examples)


@contextlib.contextmanager
def identified(example_id: str) -> Iterator[None]:
  """Turns errors from reading and decoding an image into `UnreadableError`.

  Training, evaluation and prediction all read images within this context, so
  they report the same reason for the same file.

  Args:
    example_id: identifies the image, such as its path.

  Raises:
    source_lib.UnreadableError: the image cannot be read or decoded, also
      because it does not fit in memory.
  """
  try:
    yield
  except OSError as error:
    reason = error.strerror or str(error) or type(error).__name__
    raise source_lib.UnreadableError(example_id, reason) from error
  except images.DecodeError as error:
    raise source_lib.UnreadableError(example_id, str(error)) from error
  except MemoryError as error:
    reason = 'does not fit in memory'
    raise source_lib.UnreadableError(example_id, reason) from error


def read(
  source: source_lib.Source,
  index: int,
  consume: Callable[[bytes | np.ndarray], None],
) -> int:
  """Reads an example, passes its image to `consume`, returns its label.

  Args:
    source: a split of a data set.
    index: the example's index in the source.
    consume: takes the encoded image or uint8[H, W, 3], and decodes it.

  Raises:
    source_lib.UnreadableError: the image cannot be read or decoded.
    UserError: the label is out of range.
  """
  example = source[index]
  check_label(source, example)
  with identified(example['id']):
    consume(example['image'])
  return example['label']


def check_label(source: source_lib.Source, example: source_lib.Example) -> None:
  """Checks that an example's label is one of its source's.

  Raises:
    UserError: the label is out of range.
  """
  label = example['label']
  if not 0 <= label < source.num_classes:
    raise errors.UserError(
      f'{example["id"]}: label {label} is not one of the'
      f' {source.num_classes} classes (0 to {source.num_classes - 1}) of'
      f' {source.name}'
    )


def read_or_neighbor(
  source: source_lib.Source,
  index: int,
  consume: Callable[[bytes | np.ndarray], None],
  policy: Policy,
) -> tuple[int, list[Unreadable]]:
  """Reads an example, or the next readable one in the source's order.

  Args:
    source: a split of a data set.
    index: the example's index in the source.
    consume: as in `read`.
    policy: limits how many examples may be skipped.

  Returns:
    The label, and the unreadable examples that were skipped.

  Raises:
    UserError: the policy does not allow the skipped examples, or the label is
      out of range.
  """
  found: list[Unreadable] = []
  for step in range(policy.limit(len(source)) + 1):
    try:
      label = read(source, (index + step) % len(source), consume)
      return label, found
    except source_lib.UnreadableError as error:
      found.append(refuse_if_strict(error, policy))
  raise too_many(len(found), len(source), policy, found[0])


def refuse_if_strict(
  error: source_lib.UnreadableError, policy: Policy
) -> Unreadable:
  """Returns the error as a record.

  Raises:
    UserError: the policy is strict.
  """
  if policy.strict:
    raise errors.UserError(
      f'{error.id}: {error.reason}; fix or remove it, or set strict to False'
    ) from error
  return Unreadable(error.id, error.reason)


class Ledger:
  """Reports each unreadable example once and raises if there are too many.

  Attributes:
    found: the unreadable examples so far, id -> reason.
  """

  def __init__(self, num_examples: int, policy: Policy, consequence: str):
    """Starts with no unreadable example.

    Args:
      num_examples: number of examples in the source.
      policy: how many unreadable ones are tolerated.
      consequence: ends the line that reports an example.
    """
    self.found: dict[str, str] = {}
    self._num_examples = num_examples
    self._policy = policy
    self._consequence = consequence

  def add(self, found: list[Unreadable]) -> None:
    """Adds examples; those already known are ignored.

    Raises:
      UserError: there are more of them than the policy tolerates.
    """
    for entry in map(Unreadable._make, found):
      if entry.id in self.found:
        continue
      self.found[entry.id] = entry.reason
      count = len(self.found)
      _LOG.warning(
        'unreadable image %d: %s; %s',
        count,
        errors.printable(f'{entry.id}: {entry.reason}'),
        self._consequence,
      )
      if count > self._policy.limit(self._num_examples):
        raise too_many(count, self._num_examples, self._policy, entry)


def too_many(
  count: int, num_examples: int, policy: Policy, example: Unreadable
) -> errors.UserError:
  """Returns an error about unreadable examples.

  Args:
    count: the number of unreadable examples.
    num_examples: the number of examples among which they were found.
    policy: the policy that does not tolerate them.
    example: one of them.
  """
  return errors.UserError(
    f'{count} of {num_examples} images cannot be read, more than'
    f' max_unreadable_share={policy.max_share:g}; for example, {example.id}:'
    f' {example.reason}; fix or remove them, or raise max_unreadable_share'
  )
