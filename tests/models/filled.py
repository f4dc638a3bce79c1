"""Models with the parameters of golden/fill.py, and what is asked of them."""

import jax
import numpy as np

from nfnets.layers import convolution
from nfnets.models import registry
from tests import helpers
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


def state(model: registry.Model) -> dict:
  """Running averages of mean 0 and variance 1 for batch normalization."""
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), 'float32')
  tree = jax.eval_shape(model.init, jax.random.key(0), images)[1]
  return {
    module: {
      name: np.full(leaf.shape, 'var_ema' in module, leaf.dtype)
      for name, leaf in leaves.items()
    }
    for module, leaves in tree.items()
  }


def logits(
  model: registry.Model, size: int, values: dict | None = None
) -> np.ndarray:
  """Of two images, outside training; compiled, since a network is large.

  By XLA's own convolutions, which compile fastest.
  """
  with convolution.lowering('plain'):
    apply = jax.jit(model.apply, static_argnums=4)
    (outputs, _), _ = apply(
      params(model) if values is None else values,
      state(model),
      None,
      fill.image(2, size),
      False,
    )
  return np.asarray(outputs)


def assert_golden(logits: np.ndarray, golden: dict) -> None:
  """The first eight logits and the spread of all are the stored ones."""
  atol = helpers.RTOL_FRAMEWORK * golden['logits_std']
  np.testing.assert_allclose(logits[:, :8], golden['logits'], atol=atol)
  np.testing.assert_allclose(np.std(logits), golden['logits_std'], rtol=1e-4)
