import chex
import haiku as hk
import jax
import numpy as np
import pytest

from nfnets.layers import squeeze_excite
from tests import helpers


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def _inputs(channels=8):
  return jax.random.normal(jax.random.key(0), (2, 5, 4, channels)) + 0.5


def test_squeeze_excite_equals_its_formula():
  layer = hk.transform(
    lambda x: squeeze_excite.SqueezeExcite(8, 3, name='se')(x)
  )
  x = _inputs()
  params = layer.init(jax.random.key(1), x)
  params = jax.tree.map(lambda p: p + 0.1, params)
  assert sorted(params) == ['se/~/linear', 'se/~/linear_1']
  first, second = params['se/~/linear'], params['se/~/linear_1']
  chex.assert_shape(first['w'], (8, 3))
  chex.assert_shape(second['w'], (3, 8))
  hidden = np.mean(x, (1, 2)) @ first['w'] + np.tile(first['b'], (2, 1))
  hidden = np.maximum(hidden, 0)
  gates = _sigmoid(hidden @ second['w'] + np.tile(second['b'], (2, 1)))
  np.testing.assert_allclose(
    layer.apply(params, None, x)[:, 0, 0, :],
    gates,
    rtol=helpers.RTOL_REDUCTION,
  )


@pytest.mark.parametrize(
  ('channels', 'size'),
  [(8, 3), (64, 3), (256, 5), (512, 5), (1024, 5), (1536, 5), (2048, 7)],
)
def test_eca_kernel_sizes(channels, size):
  # Measured in timm 1.0.31.
  assert squeeze_excite.eca_kernel_size(channels) == size


def test_eca_is_a_filter_along_the_channels():
  layer = hk.transform(
    lambda x: squeeze_excite.EfficientChannelAttention(name='eca')(x)
  )
  x = _inputs(16)
  params = layer.init(jax.random.key(1), x)
  weight = params['eca']['w']
  chex.assert_shape(weight, (3, 1, 1))
  means = np.pad(np.mean(x, (1, 2)), ((0, 0), (1, 1)))
  mixed = sum(means[:, i : i + 16] * float(weight[i, 0, 0]) for i in range(3))
  gates = layer.apply(params, None, x)
  chex.assert_shape(gates, (2, 1, 1, 16))
  np.testing.assert_allclose(
    gates[:, 0, 0, :], _sigmoid(mixed), rtol=helpers.RTOL_REDUCTION
  )
