"""Flat names for parameter trees, and their comparison with a model's.

A tree {module: {name: array}} is written flat as {'module/name': array}.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from nfnets import errors, models
from nfnets.models import catalogue
from nfnets.models import config as model_config
from nfnets.weights import timm_names

Flat = dict[str, Any]
Nested = dict[str, dict[str, Any]]

_HEAD = re.compile(r'[^/]+/~/linear/[wb]|head\.fc\.(weight|bias)')
_SHOWN = 3  # of each kind of fault, in a message


class Expected(NamedTuple):
  """Names and shapes (jax.ShapeDtypeStruct) of a model's arrays, flat."""

  params: Flat
  state: Flat


def flatten(tree: Mapping[str, Mapping[str, Any]]) -> Flat:
  """{module: {name: x}} to {'module/name': x}."""
  return {
    f'{module}/{name}': value
    for module, values in tree.items()
    for name, value in values.items()
  }


def unflatten(flat: Mapping[str, Any]) -> Nested:
  """{'module/name': x} to {module: {name: x}}, in sorted order."""
  tree: Nested = {}
  for path in sorted(flat):
    module, _, name = path.rpartition('/')
    tree.setdefault(module, {})[name] = flat[path]
  return tree


def is_head(path: str) -> bool:
  """Whether the parameter at this flat name is of the classifier."""
  return _HEAD.fullmatch(path) is not None


def options(config: model_config.ModelConfig) -> dict[str, Any]:
  """The options with which `create_model` makes this config by its name."""
  usual = dataclasses.asdict(models.create_model(config.name).config)
  return {
    field: value
    for field, value in dataclasses.asdict(config).items()
    if value != usual[field]
  }


@functools.lru_cache(maxsize=8)
def expected(config: model_config.ModelConfig) -> Expected:
  """The arrays that a model has, without making them."""
  model = models.create_model(config.name, **options(config))
  images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
  params, state = jax.eval_shape(model.init, jax.random.key(0), images)
  return Expected(flatten(params), flatten(state))


def check(
  flat: Flat,
  wanted: Flat,
  what: str,
  model: str,
  layout: str,
  told: str | None = None,
) -> None:
  """Raises unless `flat` holds exactly the arrays of `wanted`.

  Args:
    flat: arrays by name.
    wanted: names and shapes that the model has.
    what: the file, for the message.
    model: the model's name, for the message.
    layout: 'timm' or another, whose names these are.
    told: the model that the file says it is of.

  Raises:
    UserError: an array is missing, surplus or of another shape. Names the first
      few with both shapes, and the model that the arrays fit, if any.
  """
  missing = sorted(wanted.keys() - flat.keys())
  surplus = sorted(flat.keys() - wanted.keys())
  misshapen = [
    path
    for path in sorted(flat.keys() & wanted.keys())
    if tuple(flat[path].shape) != tuple(wanted[path].shape)
  ]
  if not (missing or surplus or misshapen):
    return
  faults = [
    _first('of another shape', [
      f'{path} is {_shape(flat[path])} in the file and '
      f'{_shape(wanted[path])} in the model'
      for path in misshapen
    ]),
    _first('missing', [f'{k} {_shape(wanted[k])}' for k in missing]),
    _first('surplus', [f'{k} {_shape(flat[k])}' for k in surplus]),
  ]  # fmt: skip
  found = [told] if told else find_models(flat, layout)
  remedy = 'it fits no model of python -m nfnets.models'
  if all(is_head(path) for path in misshapen + missing + surplus):
    size = num_classes(flat)
    keep = f'num_classes={size} keeps it, ' if size else ''
    remedy = f'the head is another: {keep}reset_head=True makes a new one'
  elif fits := [name for name in found if name != model]:
    remedy = f'the file fits {" or ".join(fits)}'
  raise errors.UserError(
    f'{what}: does not fit {model}: {"; ".join(filter(None, faults))}; {remedy}'
  )


def _shape(array: Any) -> str:
  return str(list(array.shape))


def _first(what: str, faults: list[str]) -> str:
  """'5 missing: a, b, c, ...', or nothing."""
  if not faults:
    return ''
  more = ', ...' if len(faults) > _SHOWN else ''
  return f'{len(faults)} {what}: {", ".join(faults[:_SHOWN])}{more}'


def num_classes(flat: Flat) -> int:
  """Size of the classifier among these arrays; 0 where there is none."""
  for path, array in flat.items():
    if is_head(path) and len(array.shape) == 1:
      return int(array.shape[0])
  return 0


def find_models(flat: Flat, layout: str) -> list[str]:
  """Names of the models that have as many arrays and numbers, head aside.

  Args:
    flat: arrays by name.
    layout: 'timm' or another, whose names these are.

  Returns:
    Names as `create_model` takes them; none where nothing fits.
  """
  body = [array for path, array in flat.items() if not is_head(path)]
  size = sum(math.prod(array.shape) for array in body)
  return [
    name
    for name in catalogue.find(len(body), size)
    if layout != 'timm' or timm_names.timm_name(name)
  ]
