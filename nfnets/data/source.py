"""The interface of a data set: random access to one split's encoded images."""

from typing import Protocol, TypedDict

import numpy as np


class UnreadableError(Exception):
  """An image cannot be read or decoded."""

  def __init__(self, id: str, reason: str):
    """Stores the example's id (see `Example`) and the reason."""
    super().__init__(id, reason)
    self.id = id
    self.reason = reason


class Example(TypedDict):
  """One stored example."""

  image: bytes | np.ndarray
  """The encoded file, or uint8[H, W, 3]."""
  label: int
  id: str
  """Identifies the example in messages: its file, or record file and number."""


class Source(Protocol):
  """Random access to one split; picklable, safe to read from threads."""

  name: str
  split: str
  class_names: tuple[str, ...]

  @property
  def num_classes(self) -> int:
    """The number of classes; labels are in [0, num_classes)."""

  def __len__(self) -> int:
    """Returns the number of examples."""

  def __getitem__(self, index: int) -> Example:
    """Reads example `index`; its image stays encoded.

    Raises:
      UnreadableError: its file cannot be read.
      UserError: its record file is damaged.
    """
