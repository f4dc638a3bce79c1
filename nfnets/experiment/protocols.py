"""How predictions on a test set are counted, as it was published."""

from collections.abc import Sequence
from typing import NamedTuple

from nfnets import errors
from nfnets.data import imagenet_tests, relabeled
from nfnets.data import source as source_lib
from nfnets.experiment import classes as classes_lib
from nfnets.report import numbers
from nfnets.weights import class_names


class Task(NamedTuple):
  """A split under the classes of a network.

  Attributes:
    source: the split.
    class_names: the name of each of its classes.
    classes: the network's class for each of them; None if they are the same.
    label_sets: the classes that are correct for each example; None if only its
      label is.
  """

  source: source_lib.Source
  class_names: Sequence[str]
  classes: tuple[int, ...] | None = None
  label_sets: list[tuple[int, ...]] | None = None

  def judge(self, outcomes: numbers.Outcomes) -> numbers.Outcomes:
    """Returns outcomes with the label that counts for each example."""
    if self.label_sets is None:
      return outcomes
    return numbers.with_any_label(outcomes, self.label_sets)


def make_task(
  source: source_lib.Source, known: Sequence[str], what: str
) -> Task:
  """Matches a split to a network.

  Args:
    source: the split.
    known: the name of each of the network's classes, from
      `class_names.resolve`.
    what: the network's file, for messages.

  Raises:
    UserError: the network does not know a class, or is not one for ImageNet
      where the test set needs that.
  """
  if imagenet_tests.has_few_classes(source):
    return _few_classes(source, known, what)
  aligned = classes_lib.align(source, known, what)
  if not isinstance(source, imagenet_tests.RealSource):
    return Task(aligned, known)
  if aligned is not source:
    raise _not_imagenet(source, what)
  return Task(source, known, label_sets=source.label_sets)


def _few_classes(
  source: source_lib.Source, known: Sequence[str], what: str
) -> Task:
  """Limits the network to the classes that have examples."""
  present = imagenet_tests.present(source)
  found = class_names.find(known, source.class_names)
  kept = [label for label in map(found.__getitem__, present)]
  chosen = tuple(label for label in kept if label is not None)
  if len(chosen) < len(present):
    raise _not_imagenet(source, what)
  names = [known[label] for label in chosen]
  position = {label: i for i, label in enumerate(present)}
  labels = [position.get(label, 0) for label in range(source.num_classes)]
  return Task(relabeled.RelabeledSource(source, labels, names), names, chosen)


def _not_imagenet(source: source_lib.Source, what: str) -> errors.UserError:
  return errors.UserError(
    f'{source.name}: needs a network with the classes of ImageNet, which {what}'
    ' is not: choose other weights'
  )
