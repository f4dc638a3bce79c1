import haiku as hk
import jax
import numpy as np
from jax import numpy as jnp

from nfnets.layers import linear
from tests import helpers


def test_equals_haikus_linear():
  x = jax.random.normal(jax.random.key(0), (3, 5))
  ours = hk.transform(lambda x: linear.Linear(4, name='linear')(x))
  haikus = hk.transform(lambda x: hk.Linear(4, name='linear')(x))
  params = ours.init(jax.random.key(1), x)
  drawn = haikus.init(jax.random.key(1), x)
  assert jax.tree.all(jax.tree.map(np.array_equal, params, drawn))
  params['linear']['b'] = jnp.arange(4.0)

  def loss(layer):
    return lambda params, x: jnp.sum(layer.apply(params, None, x) ** 2)

  for actual, expected in zip(
    jax.tree.leaves(jax.grad(loss(ours), (0, 1))(params, x)),
    jax.tree.leaves(jax.grad(loss(haikus), (0, 1))(params, x)),
    strict=True,
  ):
    np.testing.assert_allclose(
      actual, expected, rtol=helpers.RTOL_REDUCTION, atol=1e-6
    )
