"""Models with the parameters of golden/fill.py, and what is asked of them."""

import jax
import numpy as np

from nfnets.models import registry
from tests.golden import fill


def shapes(model: registry.Model) -> dict:
  """The parameters' shapes by module and name; nothing is computed."""
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), 'float32')
  return jax.eval_shape(model.init, jax.random.key(0), images)[0]


def count(model: registry.Model) -> int:
  """Number of parameters."""
  return sum(leaf.size for leaf in jax.tree.leaves(shapes(model)))


def names(model: registry.Model) -> list[str]:
  """Sorted lines 'module/name shape', as golden.json has them."""
  return sorted(
    f'{module}/{name} {tuple(leaf.shape)}'
    for module, leaves in shapes(model).items()
    for name, leaf in leaves.items()
  )


def params(model: registry.Model) -> dict:
  """Values that depend on each parameter's path and shape alone."""
  return {
    module: {
      name: fill.fill(f'{module}/{name}', leaf.shape)
      for name, leaf in leaves.items()
    }
    for module, leaves in shapes(model).items()
  }


def logits(model: registry.Model, size: int) -> np.ndarray:
  """Of two images, outside training; compiled, since a network is large."""
  apply = jax.jit(model.apply, static_argnums=4)
  images = fill.image(2, size)
  (outputs, _), _ = apply(params(model), {}, None, images, False)
  return np.asarray(outputs)
