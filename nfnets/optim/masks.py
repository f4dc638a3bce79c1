"""Which parameters are decayed, clipped or trained, told by their names."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import optax

# A pytree of bool like the parameters, or a function from them to one.
Mask: TypeAlias = optax.Params | Callable[[optax.Params], optax.Params]

_NOT_DECAYED = ('b', 'scale', 'offset')


def decay_mask(params: Any) -> Any:
  """True for weights: all but gains, biases, scales and offsets.

  Weights are the raw kernels of convolutions (also under weight
  standardization), of squeeze-excite and of the classifier. Skip gains and
  the scalar biases and scales of Fixup are not.

  Args:
    params: any pytree of parameters, named as Haiku names them.

  Returns:
    A pytree of bool like `params`.
  """
  return _by_path(_is_decayed, params)


def clip_mask(params: Any) -> Any:
  """True for all but the classifier's weight matrix.

  Its bias is clipped, as in the published code.

  Args:
    params: any pytree of parameters, named as Haiku names them.

  Returns:
    A pytree of bool like `params`.
  """
  return _by_path(lambda path: not _is_head_weight(path), params)


def head_mask(params: Any) -> Any:
  """True for the classifier: its weight matrix and its bias.

  Args:
    params: any pytree of parameters, named as Haiku names them.

  Returns:
    A pytree of bool like `params`.
  """
  return _by_path(_is_head, params)


def selected(
  mask: Mask | None, params: optax.Params, treedef: jax.tree_util.PyTreeDef
) -> list[int]:
  """The positions of the leaves that a mask selects.

  Args:
    mask: see `Mask`; None selects all.
    params: the parameters.
    treedef: of the tree whose leaves are counted, structured like `params`.
  """
  if mask is None:
    return list(range(treedef.num_leaves))
  tree = mask(params) if callable(mask) else mask
  leaves = treedef.flatten_up_to(tree)
  return [i for i, applies in enumerate(leaves) if applies]


def _by_path(rule: Callable[[list[str]], bool], params: Any) -> Any:
  """Applies `rule` to each leaf's path, split at '/', without Haiku's '~'."""

  def leaf_rule(path: tuple[Any, ...], leaf: Any) -> bool:
    del leaf
    names = '/'.join(jax.tree_util.keystr((key,), simple=True) for key in path)
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
