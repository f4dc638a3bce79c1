"""A data set under the class numbers of another one."""

from collections.abc import Sequence

from nfnets.data import source as source_lib
from nfnets.data import unreadable


class RelabeledSource:
  """A split with its labels replaced."""

  def __init__(
    self,
    source: source_lib.Source,
    labels: Sequence[int],
    class_names: Sequence[str],
  ):
    """Wraps a split.

    Args:
      source: the split.
      labels: the new label of each of its classes.
      class_names: the name of each new label.
    """
    self.name = source.name
    self.split = source.split
    self.class_names = tuple(class_names)
    self._source = source
    self._labels = tuple(labels)

  @property
  def num_classes(self) -> int:
    """The number of classes; labels are in [0, num_classes)."""
    return len(self.class_names)

  def __len__(self) -> int:
    """Returns the number of examples."""
    return len(self._source)

  def __getitem__(self, index: int) -> source_lib.Example:
    """Reads example `index` of the wrapped split.

    Raises:
      UnreadableError: see the wrapped split.
      UserError: likewise; also if the label is out of range.
    """
    example = self._source[index]
    unreadable.check_label(self._source, example)
    return {**example, 'label': self._labels[example['label']]}
