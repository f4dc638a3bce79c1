"""Selects the parameters to decay, clip or train, by their names."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import optax

# A pytree of bool structured like the parameters.
BoolTree: TypeAlias = optax.Params
# Such a pytree, or a function from the parameters to one.
Mask: TypeAlias = BoolTree | Callable[[optax.Params], BoolTree]

_NOT_DECAYED = ('b', 'scale', 'offset')


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
  rule: Callable[[list[str]], bool], params: optax.Params
) -> BoolTree:
  """Applies `rule` to each leaf's path, split at '/', without Haiku's '~'."""

  def leaf_rule(path: jax.tree_util.KeyPath, leaf: jax.Array) -> bool:
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
