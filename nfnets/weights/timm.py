"""Converts between our parameters and timm's state dicts.

Each of our arrays corresponds to one tensor of timm's, up to a permutation of
axes and added axes of size one, so conversion is exact. The model's
configuration covers what timm computes differently: padding, epsilon, placement
of gamma, GELU and attention.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from nfnets import errors, models
from nfnets.layers import ws_conv
from nfnets.models import catalogue
from nfnets.models import config as model_config
from nfnets.weights import tree

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

# What wrappers of a network put before its names: torch's DataParallel and
# compile, Lightning, and frameworks for detection.
_PREFIXES = re.compile(r'((module|model|net|_orig_mod|backbone|encoder)\.)+')


class Layout(NamedTuple):
  """The permutation and reshaping that turn our array into timm's."""

  axes: tuple[int, ...]  # permutation of our axes
  ones: int  # number of axes of size one appended

  def to_timm(self, array: np.ndarray) -> np.ndarray:
    """Converts our array to timm's."""
    permuted = np.transpose(array, self.axes)
    return permuted.reshape(permuted.shape + (1,) * self.ones)

  def from_timm(self, array: np.ndarray) -> np.ndarray:
    """Converts timm's array to ours."""
    squeezed = array.reshape(array.shape[: array.ndim - self.ones])
    return np.transpose(squeezed, np.argsort(self.axes))

  def timm_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of timm's array, given that of ours."""
    return tuple(shape[axis] for axis in self.axes) + (1,) * self.ones


_VECTOR = Layout((0,), 0)
_SCALAR = Layout((), 0)
_GAIN = Layout((0,), 3)
_CONV_WEIGHT = Layout((3, 2, 0, 1), 0)
_LINEAR = Layout((1, 0), 0)
_LINEAR_AS_CONV = Layout((1, 0), 2)
_ECA = Layout((2, 1, 0), 0)
_LEAF_LAYOUTS = {'w': _CONV_WEIGHT, 'gain': _GAIN, 'bias': _VECTOR}


def without_prefixes(tensors: tree.Flat) -> tree.Flat:
  """Removes what wrappers put before the names of a state dict.

  Args:
    tensors: a state dict.

  Returns:
    The same tensors, by names without prefixes such as 'module.'; unchanged if
    two tensors would get the same name.
  """
  renamed = {k[_prefix_length(k) :]: x for k, x in tensors.items()}
  return renamed if len(renamed) == len(tensors) else tensors


def _prefix_length(name: str) -> int:
  match = _PREFIXES.match(name)
  return match.end() if match else 0


def layouts(
  paths: Iterable[str], config: model_config.ModelConfig
) -> dict[str, tuple[str, Layout]]:
  """Maps each of a model's parameters to a tensor of timm's.

  Args:
    paths: flat names of the model's parameters ('NFNet/~/stem_conv0/w').
    config: the model's configuration.

  Returns:
    {our flat name: (timm's name, layout)}.

  Raises:
    UserError: timm lacks the network.
  """
  if catalogue.timm_name(config.name) is None:
    known = filter(catalogue.timm_name, models.list_models())
    raise errors.UserError(
      f'{config.name}: timm has no such network; choose one of'
      f' {", ".join(known)}'
    )
  if config.stem == 'small':
    raise errors.UserError(
      f"{config.name}: timm has no network with the stem 'small'"
    )
  return {path: _locate(path, config) for path in paths}


def _locate(path: str, config: model_config.ModelConfig) -> tuple[str, Layout]:
  local = path.split('/~/', 1)[1]
  if match := _STEM.fullmatch(local):
    number, leaf = int(match[1]) + 1, match[2]
    return f'stem.conv{number}.{_LEAVES[leaf]}', _LEAF_LAYOUTS[leaf]
  if match := _BLOCK.fullmatch(local):
    stage, index = _stage_and_index(int(match[1] or 0), config.depth)
    name, layout = _locate_in_block(match[2], config)
    return f'stages.{stage}.{index}.{name}', layout
  module, leaf = local.split('/')
  if module == 'linear':
    layout = _LINEAR if leaf == 'w' else _VECTOR
    return f'head.fc.{_LEAVES[leaf]}', layout
  prefix = {'initial_conv': 'stem.conv', 'final_conv': 'final_conv'}[module]
  return f'{prefix}.{_LEAVES[leaf]}', _LEAF_LAYOUTS[leaf]


def _locate_in_block(
  local: str, config: model_config.ModelConfig
) -> tuple[str, Layout]:
  # RegNet blocks apply attention before the last convolution.
  attention = 'attn' if config.inverted else 'attn_last'
  if local == 'skip_gain':
    return 'skipinit_gain', _SCALAR
  if match := _CONV.fullmatch(local):
    module, leaf = match.groups()
    return f'{_CONVS[module]}.{_LEAVES[leaf]}', _LEAF_LAYOUTS[leaf]
  if match := _ATTENTION.fullmatch(local):
    number, leaf = 2 if match[1] else 1, match[2]
    layout = _LINEAR_AS_CONV if leaf == 'w' else _VECTOR
    return f'{attention}.fc{number}.{_LEAVES[leaf]}', layout
  return f'{attention}.conv.weight', _ECA


def _stage_and_index(block: int, depth: tuple[int, ...]) -> tuple[int, int]:
  """Converts a block's number in the network to (stage, index in stage)."""
  for stage, blocks in enumerate(depth):
    if block < blocks:
      return stage, block
    block -= blocks
  raise ValueError(f'block is {block} beyond the end of depth {depth}')


def to_timm(params: tree.Flat, config: model_config.ModelConfig) -> tree.Flat:
  """Converts parameters to timm's state dict.

  Args:
    params: our arrays by flat name.
    config: the model's configuration.

  Returns:
    Arrays by timm's names, in any memory order.

  Raises:
    UserError: timm lacks the network.
  """
  return {
    name: layout.to_timm(np.asarray(params[path]))
    for path, (name, layout) in layouts(params, config).items()
  }


def from_timm(
  tensors: tree.Flat, paths: Iterable[str], config: model_config.ModelConfig
) -> tree.Flat:
  """Converts a state dict of timm to our parameters.

  Args:
    tensors: arrays by timm's names, with timm's shapes.
    paths: flat names of the model's parameters. Those without a tensor are
      omitted from the result.
    config: the model's configuration.

  Returns:
    Our arrays by flat name.

  Raises:
    UserError: timm lacks the network.
  """
  return {
    path: layout.from_timm(tensors[name])
    for path, (name, layout) in layouts(paths, config).items()
    if name in tensors
  }


def refit_from_timm(params: tree.Flat) -> tree.Flat:
  """Changes gains so that our standardization yields timm's filters.

  timm adds 1e-5 to a filter's variance. The published networks bound
  variance * fan_in below by 1e-4 instead, see `ws_conv.standardize_weight`.

  Args:
    params: parameters converted from timm, by flat name.

  Returns:
    The parameters with new gains.
  """
  return _refit(params, lambda floor, offset: floor / offset)


def refit_to_timm(params: tree.Flat) -> tree.Flat:
  """Changes gains so that timm's standardization yields our filters.

  Args:
    params: our parameters by flat name.

  Returns:
    The parameters with new gains, to be converted by `to_timm`.
  """
  return _refit(params, lambda floor, offset: offset / floor)


def _refit(
  params: tree.Flat,
  square_of_factor: Callable[[np.ndarray, np.ndarray], np.ndarray],
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
