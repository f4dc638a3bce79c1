"""The splits of a run: to train on, to evaluate on, and to test on."""

from typing import NamedTuple

import ml_collections

from nfnets import errors
from nfnets.data import source as source_lib
from nfnets.experiment import inputs


class Splits(NamedTuple):
  """The splits of a run.

  Attributes:
    train: the split to train on.
    held_out: the split to evaluate on during training.
    test: the split to evaluate on at the end; None if it is the same.
  """

  train: source_lib.Source
  held_out: source_lib.Source
  test: source_lib.Source | None = None


def load(config: ml_collections.ConfigDict) -> Splits:
  """Opens the splits of a run.

  Args:
    config: the settings.

  Raises:
    UserError: their classes differ, or too many images are unreadable.
  """
  uses = ['train', 'valid', *(['test'] if config.data.held_out else [])]
  source, *others = (inputs.load_source(config, use) for use in uses)
  for other in others:
    if source.class_names != other.class_names:
      differ = sorted(set(source.class_names) ^ set(other.class_names))
      raise errors.UserError(
        f'{config.dataset}: {source.split} has {source.num_classes} classes and'
        f' {other.split} has {other.num_classes}; they differ in'
        f' {", ".join(differ[:5]) or "their order"}'
      )
  for split in (source, *others):
    inputs.check_readable(config, split)
  return Splits(source, *others)
