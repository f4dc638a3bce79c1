"""Adaptive gradient clipping: each unit's gradient against its weights."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import lax

# Axes that one unit spans, by the rank of its parameter. Weights keep their
# output channels last: linear [in, out], convolutions [..., in, out]. A scalar
# (skip gain) or a vector (gain, bias) is one unit as a whole.
UNIT_AXES: dict[int, tuple[int, ...]] = {
  0: (),
  1: (0,),
  2: (0,),
  3: (0, 1),
  4: (0, 1, 2),
  5: (0, 1, 2, 3),
}
# Keeps 0 / 0 out of the scale; a square this small is never above its limit.
_MIN_SQUARE = 1e-12

Mask = Any | Callable[[Any], Any]


class AdaptiveGradClipState(NamedTuple):
  """What the last update did.

  Attributes:
    clipped: float32[], the share of the units under clipping whose gradient
      was scaled down. Units that the mask leaves out are not counted.
  """

  clipped: jax.Array


def unitwise_norm(x: jax.Array) -> jax.Array:
  """L2 norm of every unit of a parameter or of its gradient.

  Args:
    x: float[], float[n], float[in, out] or float[..., in, out] with one to
      three spatial axes.

  Returns:
    float32, whatever the dtype of `x`: the norms, with the axes of the unit
    kept as 1 (`UNIT_AXES`), so that they broadcast against `x`.

  Raises:
    ValueError: a rank above 5, whose units nothing states.
  """
  return jnp.sqrt(_unit_squares(x))


def _unit_squares(x: jax.Array) -> jax.Array:
  if x.ndim not in UNIT_AXES:
    raise ValueError(
      f'no unit axes are known for a parameter of shape {x.shape}: '
      f'rank {x.ndim} is not in 0 ... {max(UNIT_AXES)}'
    )
  squares = jnp.square(x.astype(jnp.float32))
  return jnp.sum(squares, axis=UNIT_AXES[x.ndim], keepdims=True)


def adaptive_grad_clip(
  clipping: float = 0.01, eps: float = 1e-3, mask: Mask | None = None
) -> optax.GradientTransformation:
  """Clips each unit's gradient to a share of the norm of its weights.

  A unit with gradient G and weights W is scaled by clipping * max(|W|, eps) /
  |G| where that is below 1. Norms are taken in float32 and the result has the
  gradient's dtype. A zero gradient stays zero; one that is not finite stays
  not finite, in its whole unit where it is NaN.

  Equal to `optax.adaptive_grad_clip` on scalars, vectors, linear weights and
  2-D or 3-D kernels. Different on purpose:

  * Rank 3 is a 1-D convolution [width, in, out] whose units are its filters
    (axes 0 and 1). Optax and the published code reduce axis 0 alone, which
    clips every (in, out) pair of taps by itself.
  * Units follow from the rank alone. Optax and the published code look at the
    shape without its 1s, so that a (1, C) matrix, a (1, 1, 1, C) kernel, or
    the (1, 1, 1, C) scale of a batch normalization is one unit; here it has C
    units, as it would with a second input channel.
  * Norms are float32 for bfloat16 gradients, where optax sums in bfloat16.
  * `mask` leaves parameters out, and the state says how many units were
    clipped.

  A gain that starts at 0, such as the skip gain, is held by `eps`: its
  gradient is at most clipping * eps until it has grown to `eps`.

  Args:
    clipping: the largest |G| / |W|; 0.01 is advised for batches of 1024-4096
      with SGD, larger values for smaller batches.
    eps: the least norm that a unit's weights count with, so that weights that
      start at zero can move.
    mask: pytree of bool like the parameters (or a function from the
      parameters to one), True where gradients are clipped. None clips all.

  Returns:
    A transformation whose state is `AdaptiveGradClipState`.

  Raises:
    ValueError: `clipping` or `eps` is not positive; in `update`, a parameter's
      rank is above 5.

  References:
    Brock et al., `High-Performance Large-Scale Image Recognition Without
    Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, section 4.1,
    equation 3.
  """
  if not clipping > 0:
    raise ValueError(f'clipping must be above 0, got {clipping}')
  if not eps > 0:
    raise ValueError(f'eps must be above 0, got {eps}')

  def init_fn(params: Any) -> AdaptiveGradClipState:
    del params
    return AdaptiveGradClipState(clipped=jnp.zeros((), jnp.float32))

  def update_fn(
    updates: Any, state: AdaptiveGradClipState, params: Any = None
  ) -> tuple[Any, AdaptiveGradClipState]:
    del state
    if params is None:
      raise ValueError('adaptive_grad_clip needs the parameters, got None')
    grads, treedef = jax.tree.flatten(updates)
    weights = treedef.flatten_up_to(params)
    applies = [True] * len(grads)
    if mask is not None:
      tree = mask(params) if callable(mask) else mask
      applies = treedef.flatten_up_to(tree)
    chosen = [i for i, applied in enumerate(applies) if applied]
    if not chosen:
      return updates, init_fn(params)
    with jax.named_scope('agc'):
      scales, share = _scales(
        [grads[i] for i in chosen], [weights[i] for i in chosen], clipping, eps
      )
      for i, scale in zip(chosen, scales, strict=True):
        scaled = grads[i].astype(jnp.float32) * scale
        grads[i] = scaled.astype(grads[i].dtype)
    return treedef.unflatten(grads), AdaptiveGradClipState(clipped=share)

  return optax.GradientTransformation(init_fn, update_fn)


def clipped_share(opt_state: chex.ArrayTree) -> jax.Array:
  """The share of units that the last update clipped.

  Args:
    opt_state: the state of any chain of transformations.

  Returns:
    float32[]: `AdaptiveGradClipState.clipped`, wherever in the chain it is; 0
    where nothing in the chain clips.
  """
  nodes = jax.tree.leaves(opt_state, is_leaf=_is_state)
  shares = [node.clipped for node in nodes if _is_state(node)]
  return shares[0] if shares else jnp.zeros((), jnp.float32)


def _is_state(node: Any) -> bool:
  return isinstance(node, AdaptiveGradClipState)


def _scales(
  grads: list[jax.Array],
  weights: list[jax.Array],
  clipping: float,
  eps: float,
) -> tuple[list[jax.Array], jax.Array]:
  """What each unit is multiplied by, and the share of units that are clipped.

  A deep network has thousands of parameters, most of them small. Vectors and
  scalars of one shape are worked on as one array, and nothing that XLA compiles
  depends on which of them it is for: equal operations are compiled once.
  """
  groups = _alike(grads)
  squares = [
    [_squares([x[i] for i in group]) for group in groups]
    for x in (grads, weights)
  ]
  scales: dict[int, jax.Array] = {}
  for group, *pair in zip(groups, *squares, strict=True):
    scale = _scale(*pair, clipping, eps)
    scales |= {i: _row(scale, k) for k, i in enumerate(group)}
  all_units = [jnp.concatenate([x.ravel() for x in xs]) for xs in squares]
  over = all_units[0] > _limit(all_units[1], clipping, eps)
  share = jnp.mean(over, dtype=jnp.float32)
  return [scales[i] for i in range(len(grads))], share


def _alike(tensors: list[jax.Array]) -> list[list[int]]:
  """Indices of vectors and scalars of one shape together, others alone."""
  groups: dict[Any, list[int]] = {}
  for i, x in enumerate(tensors):
    kind = (x.shape, x.dtype) if x.ndim < 2 else i
    groups.setdefault(kind, []).append(i)
  return list(groups.values())


# These are compiled together with what is around them, but traced once for
# each shape.
@jax.jit
def _squares(tensors: list[jax.Array]) -> jax.Array:
  """float32: every unit's sum of squares, for tensors of one shape."""
  return jax.vmap(_unit_squares)(jnp.stack(tensors))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _scale(
  squares: jax.Array, weight_squares: jax.Array, clipping: float, eps: float
) -> jax.Array:
  """What to multiply units by, from the squares of their norms."""
  limit = _limit(weight_squares, clipping, eps)
  # Written so that a NaN norm is not within the limit: its unit turns NaN.
  # Roots first: the quotient of the squares would underflow at huge gradients.
  factor = jnp.sqrt(limit) / jnp.sqrt(jnp.maximum(squares, _MIN_SQUARE))
  return jnp.where(squares <= limit, 1.0, factor)


def _limit(weight_squares: jax.Array, clipping: float, eps: float) -> jax.Array:
  """The square of the largest norm that units' gradients may have."""
  return clipping**2 * jnp.maximum(weight_squares, eps**2)


def _row(stacked: jax.Array, index: int) -> jax.Array:
  """`stacked[index]`, by an index that is no constant to XLA."""
  if len(stacked) == 1:
    return stacked[0]
  opaque = lax.optimization_barrier(jnp.uint32(index))
  return lax.dynamic_index_in_dim(stacked, opaque, keepdims=False)
