"""Parameters filled by the golden rule, and checks of models that have them.

The rule (golden/fill.py) gives each parameter a value that depends only on its
path and shape, so tests need no stored weights.
"""

import ast
import math
from collections.abc import Iterable, Mapping

import jax
import numpy as np

from nfnets.layers import convolution
from nfnets.models import registry
from nfnets.weights import timm
from tests import helpers
from tests.golden import fill

Arrays = dict[str, dict[str, np.ndarray]]
Shapes = dict[str, dict[str, jax.ShapeDtypeStruct]]


def params(model: registry.Model) -> Arrays:
  """Returns filled parameters for a model, float32."""
  return _fill(
    {
      module: {name: leaf.shape for name, leaf in leaves.items()}
      for module, leaves in shapes(model).items()
    }
  )


def from_names(names: Iterable[str]) -> Arrays:
  """Returns filled parameters for lines as `names` returns them."""
  tree: dict[str, dict[str, tuple[int, ...]]] = {}
  for line in names:
    path, shape = line.split(' ', 1)
    module, name = path.rsplit('/', 1)
    tree.setdefault(module, {})[name] = ast.literal_eval(shape)
  return _fill(tree)


def timm_tensors(model: registry.Model) -> dict[str, np.ndarray]:
  """Returns a filled state dict for timm's version of a model.

  The values are those of timm's entries in golden.json: filled under timm's
  names and shapes, then scaled to a variance of 1 / fan-in.
  """
  paths = {
    f'{module}/{name}': leaf.shape
    for module, leaves in shapes(model).items()
    for name, leaf in leaves.items()
  }
  return {
    name: _timm_value(name, layout.timm_shape(paths[path]))
    for path, (name, layout) in timm.layouts(paths, model.config).items()
  }


def state(model: registry.Model) -> Arrays:
  """Returns batch norm averages with mean 0 and variance 1."""
  return {
    module: {
      name: np.full(leaf.shape, 'var_ema' in module, leaf.dtype)
      for name, leaf in leaves.items()
    }
    for module, leaves in _trace_init(model)[1].items()
  }


def shapes(model: registry.Model) -> Shapes:
  """Returns the parameters' shapes; nothing is computed."""
  return _trace_init(model)[0]


def names(model: registry.Model) -> list[str]:
  """Returns sorted lines 'module/name shape', as golden.json has them."""
  return sorted(
    f'{module}/{name} {tuple(leaf.shape)}'
    for module, leaves in shapes(model).items()
    for name, leaf in leaves.items()
  )


def count(model: registry.Model) -> int:
  """Returns the number of parameters."""
  return sum(leaf.size for leaf in jax.tree.leaves(shapes(model)))


def logits(
  model: registry.Model, size: int, values: Arrays | None = None
) -> np.ndarray:
  """Computes the logits of two golden images outside training.

  Uses XLA's own convolutions, which compile fastest.

  Args:
    model: a model from `create_model`.
    size: height and width of the images, in pixels.
    values: parameters; None fills them.
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


def assert_golden(logits: np.ndarray, golden: Mapping) -> None:
  """Compares the first eight logits and the spread of all with stored ones."""
  atol = helpers.RTOL_FRAMEWORK * golden['logits_std']
  np.testing.assert_allclose(logits[:, :8], golden['logits'], atol=atol)
  np.testing.assert_allclose(
    np.std(logits), golden['logits_std'], rtol=helpers.RTOL_FRAMEWORK
  )


def _fill(tree: Mapping[str, Mapping[str, tuple[int, ...]]]) -> Arrays:
  return {
    module: {
      name: fill.fill(f'{module}/{name}', shape)
      for name, shape in leaves.items()
    }
    for module, leaves in tree.items()
  }


def _timm_value(name: str, shape: tuple[int, ...]) -> np.ndarray:
  value = fill.fill(name, shape)
  if name.endswith('gain') or len(shape) not in (2, 4):
    return value
  if len(shape) == 2:
    return value * np.float32(math.sqrt(shape[0] / shape[1]))
  scale = math.sqrt(np.prod(shape[:-1]) / np.prod(shape[1:]))
  return value * np.float32(scale)


def _trace_init(model: registry.Model) -> tuple[Shapes, Shapes]:
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), 'float32')
  return jax.eval_shape(model.init, jax.random.key(0), images)
