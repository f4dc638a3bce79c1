"""timm's names and shapes for our parameters, both ways.

Every array of ours is one tensor of timm's, permuted or with axes of size one
added: converting loses no bit. What timm computes differently (padding, the
epsilon, where gamma stands, GELU, attention) is in the model's config.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from nfnets import errors
from nfnets.layers import ws_conv
from nfnets.models import config as model_config
from nfnets.weights import timm_names, tree

_BLOCK = re.compile(r'(?:nf_block|nf_res_block)(?:_(\d+))?/(.+)')
_STEM = re.compile(r'stem_conv(\d)/(w|gain|bias)')
_CONV = re.compile(r'~/(conv\w+)/(w|gain|bias)')
_ATTENTION = re.compile(r'~/squeeze_excite/~/linear(_1)?/(w|b)')

_CONVS = {
  'conv0': 'conv1',
  'conv1': 'conv2',
  'conv1b': 'conv2b',
  'conv2': 'conv3',
  'conv_shortcut': 'downsample.conv',
}
_LEAVES = {'w': 'weight', 'gain': 'gain', 'bias': 'bias', 'b': 'bias'}


class Layout(NamedTuple):
  """How an array of ours lies in timm's state dict."""

  axes: tuple[int, ...]  # numpy.transpose of ours
  ones: int  # axes of size one after them

  def to_timm(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Our array to timm's."""
    permuted = np.transpose(array, self.axes)
    return permuted.reshape(permuted.shape + (1,) * self.ones)

  def from_timm(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array of timm to ours."""
    squeezed = array.reshape(array.shape[: array.ndim - self.ones])
    return np.transpose(squeezed, np.argsort(self.axes))

  def timm_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of timm's array for our shape."""
    return tuple(shape[axis] for axis in self.axes) + (1,) * self.ones


_AS_IT_IS = Layout((0,), 0)
_SCALAR = Layout((), 0)
_GAIN = Layout((0,), 3)
_CONV_WEIGHT = Layout((3, 2, 0, 1), 0)
_LINEAR = Layout((1, 0), 0)
_LINEAR_AS_CONV = Layout((1, 0), 2)
_ECA = Layout((2, 1, 0), 0)
_LEAF_LAYOUTS = {'w': _CONV_WEIGHT, 'gain': _GAIN, 'bias': _AS_IT_IS}


def layouts(
  paths: Mapping[str, Any], config: model_config.ModelConfig
) -> dict[str, tuple[str, Layout]]:
  """Where every parameter of a model lies in timm's state dict.

  Args:
    paths: flat names of the model's parameters ('NFNet/~/stem_conv0/w').
    config: of the model.

  Returns:
    {our flat name: (timm's name, layout)}.

  Raises:
    UserError: timm has no such network.
  """
  if timm_names.timm_name(config.name) is None:
    raise errors.UserError(
      f'{config.name}: timm has no such network; it has nfnet_f0 to f6 '
      '(as dm_nfnet_f0 ...) and the models that python -m nfnets.models '
      'lists as its own'
    )
  return {path: _place(path, config) for path in paths}


def _place(path: str, config: model_config.ModelConfig) -> tuple[str, Layout]:
  local = path.split('/~/', 1)[1]
  if match := _STEM.fullmatch(local):
    number, leaf = int(match[1]) + 1, match[2]
    return f'stem.conv{number}.{_LEAVES[leaf]}', _LEAF_LAYOUTS[leaf]
  if match := _BLOCK.fullmatch(local):
    stage, index = _stage_and_index(int(match[1] or 0), config.depth)
    name, layout = _place_in_block(match[2], config)
    return f'stages.{stage}.{index}.{name}', layout
  module, leaf = local.split('/')
  if module == 'linear':
    layout = _LINEAR if leaf == 'w' else _AS_IT_IS
    return f'head.fc.{_LEAVES[leaf]}', layout
  prefix = {'initial_conv': 'stem.conv', 'final_conv': 'final_conv'}[module]
  return f'{prefix}.{_LEAVES[leaf]}', _LEAF_LAYOUTS[leaf]


def _place_in_block(
  local: str, config: model_config.ModelConfig
) -> tuple[str, Layout]:
  # In RegNet blocks attention stands before the last convolution.
  attention = 'attn' if config.inverted else 'attn_last'
  if local == 'skip_gain':
    return 'skipinit_gain', _SCALAR
  if match := _CONV.fullmatch(local):
    module, leaf = match.groups()
    return f'{_CONVS[module]}.{_LEAVES[leaf]}', _LEAF_LAYOUTS[leaf]
  if match := _ATTENTION.fullmatch(local):
    number, leaf = 2 if match[1] else 1, match[2]
    layout = _LINEAR_AS_CONV if leaf == 'w' else _AS_IT_IS
    return f'{attention}.fc{number}.{_LEAVES[leaf]}', layout
  return f'{attention}.conv.weight', _ECA


def _stage_and_index(block: int, depth: tuple[int, ...]) -> tuple[int, int]:
  """Block number through the whole net to (stage, number in the stage)."""
  for stage, blocks in enumerate(depth):
    if block < blocks:
      return stage, block
    block -= blocks
  raise ValueError(f'block {block} past the end of depth {depth}')


def to_timm(params: tree.Flat, config: model_config.ModelConfig) -> tree.Flat:
  """Our flat parameters as timm's state dict (NumPy arrays, any order)."""
  return {
    name: layout.to_timm(np.asarray(params[path]))
    for path, (name, layout) in layouts(params, config).items()
  }


def from_timm(
  tensors: tree.Flat, wanted: tree.Flat, config: model_config.ModelConfig
) -> tree.Flat:
  """A state dict of timm as our flat parameters.

  Args:
    tensors: timm's, by its names and of its shapes.
    wanted: the model's names; those whose tensor is absent are left out.
    config: of the model.

  Returns:
    Our arrays by flat name.
  """
  return {
    path: layout.from_timm(tensors[name])
    for path, (name, layout) in layouts(wanted, config).items()
    if name in tensors
  }


def refit_from_timm(params: tree.Flat) -> tree.Flat:
  """Gains for which the floor rule gives the filters that timm computes.

  timm adds 1e-5 to a filter's variance; the published networks keep
  variance * fan_in at 1e-4 or more. See `refit_to_timm` for the inverse.

  Args:
    params: flat parameters as timm has them.

  Returns:
    The same with other gains.
  """
  return _refit(params, lambda floor, offset: floor / offset)


def refit_to_timm(params: tree.Flat) -> tree.Flat:
  """Gains for which timm computes the filters that the floor rule gives."""
  return _refit(params, lambda floor, offset: offset / floor)


def _refit(
  params: tree.Flat, square_of_factor: Callable[[Any, Any], Any]
) -> tree.Flat:
  refitted = dict(params)
  for path, gain in params.items():
    if path.endswith('/gain'):
      weight = np.asarray(params[f'{path.removesuffix("gain")}w'], np.float64)
      fan_in = math.prod(weight.shape[:-1])
      variance = weight.var(axis=(0, 1, 2))
      floor = np.maximum(fan_in * variance, ws_conv.VARIANCE_FLOOR)
      offset = fan_in * (variance + ws_conv.VARIANCE_OFFSET)
      factor = np.sqrt(square_of_factor(floor, offset))
      refitted[path] = np.asarray(gain * factor, gain.dtype)
  return refitted
