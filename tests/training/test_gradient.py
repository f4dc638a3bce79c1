"""Loss and gradient of networks with standardized convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import models
from nfnets.augment import preprocess as preprocess_lib
from nfnets.training import gradient
from tests import filled

SMALL = {'width': 0.125, 'depth': (1, 1, 1, 1), 'group_size': 16}
ROWS = 8
# Folding changes the logits by 1e-5 of their standard deviation (see `fold`).
TOLERANCE = 1e-4


def _gradient(accumulation, sam_rho=None):
  model = models.create_model(
    'nfnet_f0', 7, **SMALL, drop_rate=0.0, stochdepth_rate=0.0
  )
  plain = preprocess_lib.make_preprocess(
    num_classes=7, mean=(0.5,) * 3, std=(0.25,) * 3, flip=False
  )
  options = {'label_smoothing': 0.1, 'dtype': 'float32', 'sam_share': 1.0}
  gradient_fn = gradient.make_gradient(
    model, plain, accumulation=accumulation, sam_rho=sam_rho, seed=1, **options
  )
  rng = np.random.default_rng(0)
  batch = {
    'image': rng.integers(0, 256, (ROWS, 32, 32, 3), np.uint8),
    'label': rng.integers(0, 7, ROWS, np.int32),
    'mask': np.ones(ROWS, bool),
    'index': np.arange(ROWS, dtype=np.int32),
  }
  return jax.jit(gradient_fn), (filled.params(model), {}, jnp.int32(3), batch)


def test_filters_folded_once_per_step_give_the_same_gradient():
  runs = [_gradient(count) for count in (1, 4)]
  expected, actual = (run(*arguments) for run, arguments in runs)
  np.testing.assert_allclose(
    actual.metrics['loss'], expected.metrics['loss'], rtol=TOLERANCE
  )
  scale = max(jnp.abs(x).max() for x in jax.tree.leaves(expected.grads))
  assert scale > 0.01
  for a, b in zip(
    jax.tree.leaves(actual.grads),
    jax.tree.leaves(expected.grads),
    strict=True,
  ):
    own = jnp.maximum(jnp.abs(b).max(), 1e-3 * scale)
    np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * own)


@pytest.mark.parametrize(('sam_rho', 'inside'), [(None, False), (0.05, True)])
def test_where_filters_are_standardized(sam_rho, inside):
  run, arguments = _gradient(4, sam_rho)
  jaxpr = run.trace(*arguments).jaxpr
  (loop,) = [e for e in jaxpr.eqns if e.primitive.name == 'scan']
  assert 'rsqrt' in str(jaxpr)
  assert ('rsqrt' in str(loop.params['jaxpr'])) == inside
