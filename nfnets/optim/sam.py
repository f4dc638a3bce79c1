"""Sharpness-aware minimization: the gradient at a nearby worse point."""

from collections.abc import Callable
from typing import TypeVar

import chex
import jax
import jax.numpy as jnp
import optax

# Avoids 0 / 0 where the ascent gradient is zero.
_EPS = 1e-12

Aux = TypeVar('Aux')


def sam_gradient(
  grad_fn: Callable[[optax.Params, chex.ArrayTree], tuple[optax.Updates, Aux]],
  params: optax.Params,
  rho: float,
  batch: chex.ArrayTree,
  *,
  sam_share: float = 0.2,
) -> tuple[optax.Updates, Aux]:
  """Computes the gradient at `params` moved a distance `rho` up the loss.

  First the ascent gradient g of the first `sam_share` of the batch, then the
  gradient of the whole batch at params + rho * g / |g|, where the norm is over
  the whole tree in float32. As in the NFNet paper, the ascent uses part of the
  same batch (another batch would undo the gain), and every device ascends to
  its own worst point: nothing is averaged over devices here. The caller
  averages the result.

  Args:
    grad_fn: (params, batch) -> (gradient, auxiliary values) of the mean loss.
    params: float32 master weights. `grad_fn` does any casting: in bfloat16 the
      small move would be lost in rounding.
    rho: the distance, in the norm of the parameters; 0.05 in the paper.
    batch: pytree of arrays with the examples along the first axis.
    sam_share: fraction of the batch, in (0, 1], used for the ascent; at least
      one example. 0.2 in the paper.

  Returns:
    What `grad_fn` returns for the whole batch at the moved parameters.

  Raises:
    ValueError: `sam_share` is outside (0, 1] or `rho` is negative.

  References:
    Foret et al, `Sharpness-Aware Minimization for Efficiently Improving
    Generalization <https://arxiv.org/abs/2010.01412>`_, 2021, equation 2.
    Brock et al, `High-Performance Large-Scale Image Recognition Without
    Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, appendix A.
  """
  if not 0 < sam_share <= 1:
    raise ValueError(f'sam_share must be in (0, 1], got {sam_share}')
  if rho < 0:
    raise ValueError(f'rho must not be negative, got {rho}')
  size = jax.tree.leaves(batch)[0].shape[0]
  part = max(1, round(sam_share * size))
  ascent, _ = grad_fn(params, jax.tree.map(lambda x: x[:part], batch))
  ascent = jax.tree.map(lambda g: g.astype(jnp.float32), ascent)
  scale = rho / (optax.tree.norm(ascent) + _EPS)
  moved = jax.tree.map(lambda p, g: p + (scale * g), params, ascent)
  return grad_fn(moved, batch)
