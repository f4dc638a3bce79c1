"""What happens to images that cannot be read: named, counted, replaced."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from nfnets import errors
from nfnets.data import images
from nfnets.data import source as source_lib

_LOG = logging.getLogger(__name__)


class Unreadable(NamedTuple):
  """An example whose image cannot be read."""

  id: str
  reason: str


class Policy(NamedTuple):
  """How many unreadable images a run bears."""

  strict: bool
  """Whether the first one is an error."""
  max_share: float
  """Of the examples; more unreadable ones are an error."""

  def limit(self, num_examples: int) -> int:
    """The number of unreadable examples that is still borne."""
    return int(self.max_share * num_examples)


def read(
  source: source_lib.Source, index: int, consume: Callable[[Any], None]
) -> int:
  """Reads an example, passes its image to `consume`, returns its label.

  Raises:
    source_lib.UnreadableError: the image cannot be read or decoded.
    UserError: the label is out of range.
  """
  example = source[index]
  label = example['label']
  if not 0 <= label < source.num_classes:
    raise errors.UserError(
      f'{example["id"]}: label {label} is not one of the'
      f' {source.num_classes} classes (0 to {source.num_classes - 1}) of'
      f' {source.name}'
    )
  try:
    consume(example['image'])
  except images.DecodeError as error:
    raise source_lib.UnreadableError(example['id'], str(error)) from error
  return label


def read_or_neighbour(
  source: source_lib.Source,
  index: int,
  consume: Callable[[Any], None],
  policy: Policy,
) -> tuple[int, list[Unreadable]]:
  """Reads an example, or else the next in the source's order that can be read.

  Returns:
    The label, and the unreadable examples met on the way.

  Raises:
    UserError: the policy forbids it, or the label is out of range.
  """
  found: list[Unreadable] = []
  for step in range(policy.limit(len(source)) + 1):
    try:
      label = read(source, (index + step) % len(source), consume)
      return label, found
    except source_lib.UnreadableError as error:
      found.append(refuse_if_strict(error, policy))
  raise _too_many(len(found), len(source), policy, found[0])


def refuse_if_strict(
  error: source_lib.UnreadableError, policy: Policy
) -> Unreadable:
  """Records the error, or raises a `UserError` if the policy is strict."""
  if policy.strict:
    raise errors.UserError(
      f'{error.id}: {error.reason}; mend or remove it, or do without strict'
    ) from error
  return Unreadable(error.id, error.reason)


class Ledger:
  """Names each unreadable example once, counts them, and stops at too many."""

  def __init__(self, num_examples: int, policy: Policy, consequence: str):
    """Starts empty; `consequence` ends the line that names an example."""
    self.found: dict[str, str] = {}
    self._num_examples = num_examples
    self._policy = policy
    self._consequence = consequence

  def add(self, found: list[Unreadable]) -> None:
    """Enters examples, known or new.

    Raises:
      UserError: there are more of them than the policy bears.
    """
    for entry in map(Unreadable._make, found):
      if entry.id in self.found:
        continue
      self.found[entry.id] = entry.reason
      count = len(self.found)
      _LOG.warning(
        'unreadable image %d: %s: %s; %s', count, *entry, self._consequence
      )
      if count > self._policy.limit(self._num_examples):
        raise _too_many(count, self._num_examples, self._policy, entry)


def _too_many(
  count: int, num_examples: int, policy: Policy, example: Unreadable
) -> errors.UserError:
  return errors.UserError(
    f'{count} of {num_examples} images cannot be read, more than the share of'
    f' {policy.max_share:g} that is borne; {example.id}: {example.reason}'
  )
