"""Selects the parameters to decay, clip or train, by their names."""

import bisect
import itertools
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import jax
import optax

# A pytree of bool structured like the parameters.
BoolTree: TypeAlias = optax.Params
# Such a pytree, or a function from the parameters to one.
Mask: TypeAlias = BoolTree | Callable[[optax.Params], BoolTree]

T = TypeVar('T')

_NOT_DECAYED = ('b', 'scale', 'offset')
# Starts of the names of what is below and above the blocks. Fixup's network
# has a scalar bias1 in the stem and bias2 before the classifier.
_STEM = ('stem_conv', 'initial_', 'bias1')
_LAST = ('final_', 'bias2')


def decay_mask(params: optax.Params) -> BoolTree:
  """Selects the weights: all but gains, biases, scales and offsets.

  Weights are the kernels of convolutions (before weight standardization) and
  the matrices of squeeze-excite and of the classifier. Skip gains and Fixup's
  scalar biases and scales are not weights.

  Args:
    params: any pytree of parameters with Haiku's names.

  Returns:
    A pytree of bool like `params`.
  """
  return _by_path(_is_decayed, params)


def clip_mask(params: optax.Params) -> BoolTree:
  """Selects all parameters but the classifier's weight matrix.

  Its bias is clipped, as in the published code.

  Args:
    params: any pytree of parameters with Haiku's names.

  Returns:
    A pytree of bool like `params`.
  """
  return _by_path(lambda path: not _is_head_weight(path), params)


def head_mask(params: optax.Params) -> BoolTree:
  """Selects the classifier: its weight matrix and its bias.

  Args:
    params: any pytree of parameters with Haiku's names.

  Returns:
    A pytree of bool like `params`.
  """
  return _by_path(_is_head, params)


def trained_mask(
  params: optax.Params, frozen: int, depth: Sequence[int]
) -> BoolTree:
  """Selects the parameters to train if the first parts are frozen.

  Args:
    params: any pytree of parameters with Haiku's names.
    frozen: 0: none; 1: the stem is frozen; 2 to 5: the first stages too; 6: all
      but the classifier.
    depth: blocks in each stage.

  Returns:
    A pytree of bool like `params`.

  Raises:
    ValueError: a parameter is in no known part of a network.
  """
  ends = list(itertools.accumulate(depth))

  def part(path: list[str]) -> int:
    if _is_head(path):
      return len(ends) + 3
    if _is_last(path):
      return len(ends) + 2
    block = _block(path)
    return 1 if block is None else 2 + bisect.bisect(ends, block)

  return _by_path(lambda path: part(path) > frozen, params)


def layers_above(params: optax.Params) -> optax.Params:
  """Counts the layers between each parameter and the output.

  The stem is one layer, each block is one, and the classifier is one. What is
  between the last block and the classifier belongs to the last block's layer.

  Args:
    params: any pytree of parameters with Haiku's names.

  Returns:
    A pytree of int like `params`: 0 for the classifier, 1 for the last block,
    ..., the number of blocks plus 1 for the stem.

  Raises:
    ValueError: a parameter is in no known part of a network.

  References:
    Wightman, `PyTorch Image Models
    <https://github.com/huggingface/pytorch-image-models>`_, 2019
    (NormFreeNet.group_matcher).
  """
  # -1 in the stem, None above the blocks.
  blocks = _by_path(
    lambda path: None if _is_head(path) or _is_last(path) else _number(path),
    params,
  )
  count = 1 + max(jax.tree.leaves(blocks), default=-1)

  def above(path: list[str]) -> int:
    if _is_head(path):
      return 0
    return 1 if _is_last(path) else count - _number(path)

  return _by_path(above, params)


def selected(
  mask: Mask | None, params: optax.Params, treedef: jax.tree_util.PyTreeDef
) -> list[int]:
  """Returns the positions of the leaves that a mask selects.

  Args:
    mask: see `Mask`; None selects all leaves.
    params: the parameters.
    treedef: structure of the parameters; leaves are counted in its order.
  """
  if mask is None:
    return list(range(treedef.num_leaves))
  tree = mask(params) if callable(mask) else mask
  leaves = treedef.flatten_up_to(tree)
  return [i for i, applies in enumerate(leaves) if applies]


def _by_path(
  rule: Callable[[list[str]], T], params: optax.Params
) -> optax.Params:
  """Applies `rule` to each leaf's path, split at '/', without Haiku's '~'."""

  def leaf_rule(path: jax.tree_util.KeyPath, leaf: jax.Array) -> T:
    del leaf
    names = jax.tree_util.keystr(path, simple=True, separator='/')
    return rule([name for name in names.split('/') if name != '~'])

  return jax.tree_util.tree_map_with_path(leaf_rule, params)


def _is_decayed(path: list[str]) -> bool:
  name = path[-1]
  return not (name in _NOT_DECAYED or 'gain' in name or 'bias' in name)


def _is_head(path: list[str]) -> bool:
  # The linear layers of squeeze-excite have a block between root and layer.
  return len(path) == 3 and path[1] == 'linear'


def _is_head_weight(path: list[str]) -> bool:
  return _is_head(path) and path[-1] == 'w'


def _is_last(path: list[str]) -> bool:
  """Returns whether a parameter is between the blocks and the classifier."""
  return path[1].startswith(_LAST)


def _number(path: list[str]) -> int:
  """Returns the number of a parameter's block; -1 in the stem."""
  block = _block(path)
  return -1 if block is None else block


def _block(path: list[str]) -> int | None:
  """Returns the number of a parameter's block, from 0; None in the stem.

  Raises:
    ValueError: it is in no known part of a network.
  """
  if path[1].startswith(_STEM):
    return None
  match = re.fullmatch(r'[a-z_]*block(?:_v[12])?(?:_(\d+))?', path[1])
  if not match or len(path) < 3:
    raise ValueError(
      f'the parameter {"/".join(path)} is neither in the stem nor in a block,'
      ' nor above the blocks'
    )
  return int(match[1] or 0)
