import chex
import haiku as hk
import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from nfnets.layers import plain_conv
from tests import helpers


def _inputs():
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.standard_normal((2, 8, 7, 6)), jnp.float32)


def _layer(**options):
  return hk.transform(
    lambda x: plain_conv.PlainConv2D(4, 3, name='conv', **options)(x)
  )


@pytest.mark.parametrize(
  ('padding', 'pads'),
  [('same', ((0, 1), (1, 1))), ('symmetric', ((1, 1), (1, 1)))],
)
def test_equals_xlas_convolution_plus_bias(padding, pads):
  x = _inputs()
  layer = _layer(stride=2, groups=2, padding=padding)
  params = jax.jit(layer.init)(jax.random.key(0), x)
  chex.assert_shape(params['conv']['w'], (3, 3, 3, 4))
  np.testing.assert_array_equal(params['conv']['bias'], np.zeros(4))
  params['conv']['bias'] = jnp.arange(4.0)
  expected = lax.conv_general_dilated(
    x,
    params['conv']['w'],
    (2, 2),
    pads,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=2,
  ) + jnp.arange(4.0).reshape(1, 1, 1, 4)
  np.testing.assert_allclose(
    jax.jit(layer.apply)(params, None, x),
    expected,
    rtol=helpers.RTOL_REDUCTION,
    atol=1e-5,
  )


@pytest.mark.parametrize(
  ('bias_name', 'names'), [(None, ['w']), ('b', ['b', 'w'])]
)
def test_name_of_the_bias(bias_name, names):
  layer = _layer(bias_name=bias_name)
  params = jax.eval_shape(layer.init, jax.random.key(0), _inputs())
  assert sorted(params['conv']) == names


def test_initial_filters():
  layer = hk.transform(lambda x: plain_conv.PlainConv2D(256, 3)(x))
  params = jax.jit(layer.init)(jax.random.key(0), _inputs())
  scaled = np.asarray(params['plain_conv2_d']['w']) * np.sqrt(3 * 3 * 6)
  # A normal distribution truncated at 2 of its own standard deviations, scaled
  # back to variance 1.
  assert scaled.std() == pytest.approx(1.0, rel=0.02)
  assert 2.2 < np.abs(scaled).max() <= 2 / 0.87962566
  layer = _layer(w_init=jnp.zeros)
  zeros = jax.jit(layer.init)(jax.random.key(0), _inputs())
  np.testing.assert_array_equal(zeros['conv']['w'], np.zeros((3, 3, 6, 4)))
