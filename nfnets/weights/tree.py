"""Flat names for parameter trees, and checks against a model's arrays.

A tree {module: {name: array}} becomes the flat dict {'module/name': array}.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from nfnets import errors, models
from nfnets.models import catalogue
from nfnets.models import config as model_config

Flat = dict[str, np.ndarray]
"""Arrays by flat name."""
Nested = dict[str, dict[str, np.ndarray]]
"""Arrays by module and name."""
Shapes = dict[str, jax.ShapeDtypeStruct]
"""Shapes and dtypes by flat name."""
Options = dict[str, Any]
"""Keyword arguments of `create_model`: some fields of `ModelConfig`.

A dict rather than a record because absence matters: a missing field keeps the
named model's own value. The values have the types of the fields.
"""

_HEAD = re.compile(r'[^/]+/~/linear/[wb]|head\.fc\.(weight|bias)')
_MAX_SHOWN = 3  # arrays of each kind in an error message

_T = TypeVar('_T')


class Expected(NamedTuple):
  """The arrays that a model has."""

  params: Shapes
  state: Shapes


def flatten(tree: Mapping[str, Mapping[str, _T]]) -> dict[str, _T]:
  """Converts {module: {name: x}} to {'module/name': x}."""
  return {
    f'{module}/{name}': value
    for module, values in tree.items()
    for name, value in values.items()
  }


def unflatten(flat: Mapping[str, _T]) -> dict[str, dict[str, _T]]:
  """Converts {'module/name': x} to {module: {name: x}}, sorted by name."""
  tree: dict[str, dict[str, _T]] = {}
  for path in sorted(flat):
    module, _, name = path.rpartition('/')
    tree.setdefault(module, {})[name] = flat[path]
  return tree


def is_head(path: str) -> bool:
  """Returns whether a flat name (ours or timm's) belongs to the classifier."""
  return _HEAD.fullmatch(path) is not None


def options(config: model_config.ModelConfig) -> Options:
  """Returns the options with which `create_model` rebuilds a configuration.

  Args:
    config: the model's configuration.

  Returns:
    The fields that differ from the defaults of the model of that name.
  """
  defaults = dataclasses.asdict(models.create_model(config.name).config)
  return {
    field: value
    for field, value in dataclasses.asdict(config).items()
    if value != defaults[field]
  }


@functools.lru_cache(maxsize=8)
def expected(config: model_config.ModelConfig) -> Expected:
  """Returns names, shapes and dtypes of a model's arrays; computes no values.

  Args:
    config: the model's configuration.
  """
  model = models.create_model(config.name, **options(config))
  images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
  params, state = jax.eval_shape(model.init, jax.random.key(0), images)
  return Expected(flatten(params), flatten(state))


def check(
  flat: Flat,
  wanted: Shapes,
  what: str,
  model: str,
  layout: str,
  stored_model: str | None = None,
) -> None:
  """Raises an error unless `flat` has exactly the names and shapes of `wanted`.

  Args:
    flat: the arrays found.
    wanted: the model's arrays.
    what: the file's name, for the message.
    model: the model's name, for the message.
    layout: 'timm' if the names are timm's.
    stored_model: the model named in the file, if any.

  Raises:
    UserError: an array is missing, unexpected or has the wrong shape. The
      message lists the first few with their shapes, and the model that the
      arrays fit, if any.
  """
  missing = sorted(wanted.keys() - flat.keys())
  unexpected = sorted(flat.keys() - wanted.keys())
  misshapen = [
    path
    for path in sorted(flat.keys() & wanted.keys())
    if tuple(flat[path].shape) != tuple(wanted[path].shape)
  ]
  if not (missing or unexpected or misshapen):
    return
  faults = [
    _summary('with the wrong shape', [
      f'{path} is {_shape(flat[path])} in the file and '
      f'{_shape(wanted[path])} in the model'
      for path in misshapen
    ]),
    _summary('missing', [f'{k} {_shape(wanted[k])}' for k in missing]),
    _summary('unexpected', [f'{k} {_shape(flat[k])}' for k in unexpected]),
  ]  # fmt: skip
  fitting = [stored_model] if stored_model else find_models(flat, layout)
  remedy = 'it fits no model listed by python -m nfnets.models'
  if all(is_head(path) for path in misshapen + missing + unexpected):
    size = num_classes(flat)
    keep = f"num_classes={size} to keep the file's or " if size else ''
    remedy = f'the classifiers differ: pass {keep}reset_head=True for a new one'
  elif others := [name for name in fitting if name != model]:
    remedy = f'the file fits {" or ".join(others)}'
  raise errors.UserError(
    f'{what}: does not fit {model}: {"; ".join(filter(None, faults))}; {remedy}'
  )


def _shape(array: np.ndarray | jax.ShapeDtypeStruct) -> str:
  return str(list(array.shape))


def _summary(what: str, faults: list[str]) -> str:
  """Returns '5 missing: a, b, c, ...', or '' without faults."""
  if not faults:
    return ''
  return f'{len(faults)} {what}: {errors.listed(faults, _MAX_SHOWN)}'


def num_classes(flat: Flat) -> int:
  """Returns the number of classes of the classifier, 0 without one."""
  for path, array in flat.items():
    if is_head(path) and len(array.shape) == 1:
      return int(array.shape[0])
  return 0


def find_models(flat: Flat, layout: str) -> list[str]:
  """Finds the models with the same number of arrays and parameters.

  The classifier is not counted.

  Args:
    flat: the arrays.
    layout: 'timm' if the names are timm's.

  Returns:
    Names for `create_model`; empty if no model fits.
  """
  body = [array for path, array in flat.items() if not is_head(path)]
  size = sum(math.prod(array.shape) for array in body)
  return [
    name
    for name in catalogue.find(len(body), size)
    if layout != 'timm' or catalogue.timm_name(name)
  ]
