"""Adaptive gradient clipping: limits gradients relative to their weights."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from nfnets import xla
from nfnets.optim import masks

# Rank of a parameter -> axes of one unit. Output channels are last: linear
# [in, out], convolution [..., in, out]. A scalar or a vector is a single unit.
UNIT_AXES = {0: (), 1: (0,), 2: (0,), 3: (0, 1), 4: (0, 1, 2), 5: (0, 1, 2, 3)}
_MIN_SQUARE = 1e-12  # avoids 0 / 0


class AdaptiveGradClipState(NamedTuple):
  """Statistics of the last update.

  Attributes:
    clipped: float32[], fraction of the selected units that were scaled down.
  """

  clipped: jax.Array


def unitwise_norm(x: jax.Array) -> jax.Array:
  """Computes the L2 norm of every unit of a parameter or its gradient.

  Args:
    x: float or complex array of rank 0 to 5.

  Returns:
    float32 or wider, with axes of a unit (`UNIT_AXES`) reduced to size 1.

  Raises:
    ValueError: if the rank is above 5, for which no units are defined.
  """
  return jnp.sqrt(_unitwise_square(x))


def _unitwise_square(x: jax.Array) -> jax.Array:
  if x.ndim not in UNIT_AXES:
    raise ValueError(
      f'no unit axes are defined for a parameter of shape {x.shape}: '
      f'rank {x.ndim} is not in 0 ... {max(UNIT_AXES)}'
    )
  parts = (x.real, x.imag) if jnp.iscomplexobj(x) else (x,)
  dtype = jnp.promote_types(parts[0].dtype, jnp.float32)
  squares = sum(jnp.square(part.astype(dtype)) for part in parts)
  return jnp.sum(squares, axis=UNIT_AXES[x.ndim], keepdims=True)


def clip_scale(
  grad: jax.Array, weight: jax.Array, clipping: jax.Array, eps: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Computes min(1, clipping * max(|W|, eps) / |G|) per unit, equation 3.

  Returns:
    The factor of each unit of the gradient G, NaN where |G| is; |G|^2; |W|^2.
  """
  square, weight_square = _unitwise_square(grad), _unitwise_square(weight)
  limit = _max_square(weight_square, clipping, eps)
  # The quotient of the squares would underflow for huge gradients.
  scale = jnp.sqrt(limit) / jnp.sqrt(jnp.maximum(square, _MIN_SQUARE))
  return jnp.where(square <= limit, 1.0, scale), square, weight_square


def _max_square(
  weight_square: jax.Array, clipping: jax.Array, eps: jax.Array
) -> jax.Array:
  return clipping**2 * jnp.maximum(weight_square, eps**2)


def adaptive_grad_clip(
  clipping: jax.typing.ArrayLike = 0.01,
  eps: jax.typing.ArrayLike = 1e-3,
  mask: masks.Mask | None = None,
) -> optax.GradientTransformation:
  """Clips each unit's gradient to a multiple of the norm of its weights.

  The gradient G of a unit with weights W is multiplied by clipping *
  max(|W|, eps) / |G| if this is below 1. Zero gradients stay zero, gradients
  that are not finite stay so, complex ones are clipped by their modulus.
  `clipping` and `eps` may be traced, as by `optax.inject_hyperparams` (which
  needs static_args=('mask',) for a mask).

  Differs from `optax.adaptive_grad_clip` in three ways: a rank-3 parameter is a
  1-D convolution [width, in, out], with one unit per filter; axes of size 1
  count, so a (1, C) matrix has C units; norms are in float32 or wider.

  Args:
    clipping: largest |G| / |W|, the paper's lambda: 0.01 for SGD with batches
      of 1024 to 4096 images, larger for smaller batches.
    eps: smallest |W| that counts, so that gains that start at 0 can move.
    mask: where gradients are clipped, see `masks.Mask`; None clips all.

  Returns:
    A transformation whose state is `AdaptiveGradClipState`.

  Raises:
    ValueError: if `clipping` or `eps` is not positive; in `update`, if the
      parameters are missing or one has a rank above 5.

  References:
    Brock et al, `High-Performance Large-Scale Image Recognition Without
    Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, section 4.1.
  """
  for name, value in (('clipping', clipping), ('eps', eps)):
    if not isinstance(value, jax.core.Tracer) and not value > 0:
      raise ValueError(f'{name} must be above 0, got {value}')

  clip_scales = xla.map_alike(
    functools.partial(clip_scale, clipping=clipping, eps=eps)
  )

  def init_fn(params: optax.Params) -> AdaptiveGradClipState:
    del params
    return AdaptiveGradClipState(clipped=jnp.zeros((), jnp.float32))

  def update_fn(
    updates: optax.Updates,
    state: AdaptiveGradClipState,
    params: optax.Params | None = None,
  ) -> tuple[optax.Updates, AdaptiveGradClipState]:
    del state
    if params is None:
      raise ValueError('adaptive_grad_clip needs the parameters, got None')
    grads, treedef = jax.tree.flatten(updates)
    weights = treedef.flatten_up_to(params)
    chosen = masks.selected(mask, params, treedef)
    if not chosen:
      return updates, init_fn(params)
    with jax.named_scope('agc'):
      rows, stacks = clip_scales(
        [grads[i] for i in chosen], [weights[i] for i in chosen]
      )
      for i, (scale, *_) in zip(chosen, rows, strict=True):
        grads[i] = (grads[i] * scale).astype(grads[i].dtype)
      squares, weight_squares = (
        jnp.concatenate([stack[part].ravel() for stack in stacks])
        for part in (1, 2)
      )
      over = squares > _max_square(weight_squares, clipping, eps)
      clipped = jnp.mean(over, dtype=jnp.float32)
    return treedef.unflatten(grads), AdaptiveGradClipState(clipped)

  return optax.GradientTransformation(init_fn, update_fn)
