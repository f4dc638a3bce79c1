"""Sharpness-aware minimization: the gradient at a nearby worse point."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

# Keeps a zero ascent gradient from dividing by its norm.
_EPS = 1e-12


def sam_gradient(
  grad_fn: Callable[[Any, Any], tuple[Any, Any]],
  params: Any,
  rho: float,
  batch: Any,
  *,
  sam_share: float = 0.2,
  ascent_axis: str | None = None,
) -> tuple[Any, Any]:
  """Gradient at `params` moved a distance `rho` up the loss.

  First the ascent gradient g of the first `sam_share` of the batch, then the
  gradient of the whole batch at params + rho * g / |g|, the norm being over
  the whole tree in float32. As in the NFNet paper the ascent sees a part of
  the same batch (another batch would undo the gain) and is each device's own:
  with `ascent_axis` None nothing is averaged between devices, so that each of
  them looks for its own worst point. The caller averages the result, always.

  Args:
    grad_fn: (params, batch) -> (gradient, auxiliary values) of the mean loss.
    params: float32 master weights; in bfloat16 the small move would be lost
      in rounding, so `grad_fn` does any casting.
    rho: the distance, in the norm of the parameters; 0.05 in the paper.
    batch: pytree of arrays whose first axis counts the examples.
    sam_share: the fraction of the batch that the ascent sees, in (0, 1]; at
      least one example. 0.2 in the paper.
    ascent_axis: None for an ascent gradient per device, as published; or the
      name of the mapped axis that it is averaged over.

  Returns:
    What `grad_fn` returns for the whole batch at the moved parameters.

  Raises:
    ValueError: `sam_share` is outside (0, 1] or `rho` is negative.

  References:
    Foret et al., `Sharpness-Aware Minimization for Efficiently Improving
    Generalization <https://arxiv.org/abs/2010.01412>`_, 2021, equation 2.
    Brock et al., `High-Performance Large-Scale Image Recognition Without
    Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, appendix A.
  """
  if not 0 < sam_share <= 1:
    raise ValueError(f'sam_share must be in (0, 1], got {sam_share}')
  if rho < 0:
    raise ValueError(f'rho must not be negative, got {rho}')
  size = jax.tree.leaves(batch)[0].shape[0]
  part = max(1, round(sam_share * size))
  ascent, _ = grad_fn(params, jax.tree.map(lambda x: x[:part], batch))
  if ascent_axis is not None:
    ascent = jax.lax.pmean(ascent, ascent_axis)
  ascent = jax.tree.map(lambda g: g.astype(jnp.float32), ascent)
  scale = rho / (optax.tree.norm(ascent) + _EPS)
  moved = jax.tree.map(lambda p, g: p + (scale * g), params, ascent)
  return grad_fn(moved, batch)
