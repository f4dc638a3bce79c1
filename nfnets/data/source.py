"""What a data set is: random access to the encoded images of one split."""

from typing import Protocol, TypedDict

import numpy as np


class UnreadableError(Exception):
  """The image of an example cannot be read or decoded."""

  def __init__(self, id: str, reason: str):
    """Names the example, as `Example.id` does, and says what is wrong."""
    super().__init__(id, reason)
    self.id = id
    self.reason = reason


class Example(TypedDict):
  """One stored example."""

  image: bytes | np.ndarray
  """The encoded file, or uint8[H, W, 3]."""
  label: int
  id: str
  """Names the example in messages: its file, or record file and number."""


class Source(Protocol):
  """Random access to one split; picklable, safe to read from threads."""

  name: str
  split: str
  class_names: tuple[str, ...]

  @property
  def num_classes(self) -> int:
    """Labels are in [0, num_classes)."""

  def __len__(self) -> int:
    """The number of examples."""

  def __getitem__(self, index: int) -> Example:
    """Reads example `index`, image still encoded.

    Raises:
      UnreadableError: its file cannot be read.
      UserError: its record file is damaged.
    """
