"""A data set by name: random access to its encoded images, by split."""

import os
from typing import Protocol, TypedDict

import numpy as np

from nfnets import errors

SPLITS = ('train', 'valid', 'test')


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


def load_source(
  name: str, split: str, data_dir: str | os.PathLike | None = None
) -> Source:
  """Opens a split of a data set.

  Args:
    name: 'digits' or a TFDS name.
    split: 'train', 'valid' or 'test'.
    data_dir: where the data set was prepared.

  Returns:
    A `Source`.

  Raises:
    UserError: the data set or the split does not exist.
  """
  if split not in SPLITS:
    raise errors.UserError(
      f'split {split!r} does not exist; choose one of {", ".join(SPLITS)}'
    )
  from nfnets.data import prepared

  return prepared.load_prepared(name, split, data_dir)
