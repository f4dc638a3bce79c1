"""A small NFNet, its parameters and its file, for all tests of weights."""

import pathlib
from collections.abc import Sequence
from typing import Any

from nfnets import models, weights
from tests import filled

NAME = 'nfnet_f0'
OPTIONS: dict[str, Any] = {
  'width': 0.125,
  'depth': (1, 1, 1, 1),
  'group_size': 16,
  'num_classes': 10,
  'test_size': 32,
}


def params(**options: Any) -> filled.Arrays:
  """Returns filled parameters for the tiny model."""
  return filled.params(models.create_model(NAME, **{**OPTIONS, **options}))


def save(
  path: pathlib.Path,
  layout: str = 'nfnets',
  class_names: Sequence[str] = (),
  eval_preset: str | None = None,
  **options: Any,
) -> None:
  """Writes the tiny model's parameters to a file."""
  options = {**OPTIONS, **options}
  weights.save(
    path,
    params(**options),
    {},
    NAME,
    layout,
    class_names=class_names,
    eval_preset=eval_preset,
    **options,
  )
