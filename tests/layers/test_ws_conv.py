import chex
import haiku as hk
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from nfnets.layers import ws_conv
from tests import helpers


def _weight(shape=(3, 3, 8, 16), scale=1.0, shift=0.3):
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(shift, scale, shape), jnp.float32)


@pytest.mark.parametrize('shape', [(3, 3, 8, 16), (1, 1, 4, 4), (7, 7, 3, 2)])
def test_filters_have_zero_sum_and_unit_norm(shape):
  w = ws_conv.standardize_weight(_weight(shape), jnp.ones(shape[-1]))
  np.testing.assert_allclose(jnp.sum(w, (0, 1, 2)), 0.0, atol=1e-5)
  norms = jnp.sqrt(jnp.sum(w**2, (0, 1, 2)))
  np.testing.assert_allclose(norms, 1.0, rtol=helpers.RTOL_REDUCTION)


def test_scale_and_shift_of_the_weight_have_no_effect():
  weight, gain = _weight(), jnp.linspace(0.5, 1.5, 16)
  chex.assert_trees_all_close(
    ws_conv.standardize_weight(weight * 7.0 + 2.0, gain),
    ws_conv.standardize_weight(weight, gain),
    rtol=1e-4,
    atol=1e-6,
  )


def test_variances_below_the_floor_are_replaced_by_it():
  weight = _weight(scale=1e-3, shift=0.0)
  fan_in = 3 * 3 * 8
  centered = np.asarray(weight) - np.asarray(weight).mean((0, 1, 2))
  assert np.all(np.var(weight, (0, 1, 2)) * fan_in < 1e-4)
  np.testing.assert_allclose(
    ws_conv.standardize_weight(weight, jnp.ones(16)),
    centered / 1e-2,
    rtol=1e-4,
    atol=1e-6,
  )


def test_additive_epsilon_is_timms():
  weight, gain = _weight(scale=0.01), jnp.linspace(0.5, 1.5, 16)
  fan_in = 3 * 3 * 8
  w = np.asarray(weight, np.float64)
  expected = (w - w.mean((0, 1, 2))) * np.asarray(gain)
  expected /= np.sqrt((w.var((0, 1, 2)) + 1e-5) * fan_in)
  np.testing.assert_allclose(
    ws_conv.standardize_weight(weight, gain, epsilon='additive'),
    expected,
    rtol=1e-4,
    atol=1e-6,
  )


def test_an_unknown_rule_is_shown():
  with pytest.raises(ValueError, match="'none'"):
    ws_conv.standardize_weight(_weight(), jnp.ones(16), epsilon='none')
  with pytest.raises(ValueError, match="'valid'"):
    ws_conv.explicit_padding('valid', 3)


def _apply(inputs, **kwargs):
  layer = hk.transform(lambda x: ws_conv.WSConv2D(name='conv', **kwargs)(x))
  params = layer.init(jax.random.key(0), inputs)
  return params, layer.apply(params, None, inputs)


def test_parameters_of_a_grouped_convolution():
  params, outputs = _apply(
    jnp.ones((2, 6, 6, 8)), output_channels=12, kernel_size=3, groups=4
  )
  chex.assert_shape(params['conv']['w'], (3, 3, 2, 12))
  chex.assert_trees_all_equal(params['conv']['gain'], jnp.ones(12))
  chex.assert_trees_all_equal(params['conv']['bias'], jnp.zeros(12))
  chex.assert_shape(outputs, (2, 6, 6, 12))


def test_initial_weights_have_variance_one_over_fan_in():
  params, _ = _apply(jnp.ones((1, 4, 4, 64)), output_channels=64, kernel_size=3)
  variance = jnp.var(params['conv']['w']) * 64 * 9
  np.testing.assert_allclose(variance, 1.0, rtol=0.02)


def test_a_unit_gaussian_keeps_its_variance():
  x = jax.random.normal(jax.random.key(1), (4, 32, 32, 64))
  _, outputs = _apply(x, output_channels=64, kernel_size=1)
  np.testing.assert_allclose(jnp.var(outputs), 1.0, rtol=0.02)


@pytest.mark.parametrize('size', [8, 9])
@pytest.mark.parametrize('padding', ['same', 'symmetric'])
def test_positions_that_a_stride_of_two_covers(size, padding):
  # The response to a single bright pixel shows which inputs an output covers.
  pixel = 2
  x = jnp.zeros((1, size, size, 1)).at[0, pixel, pixel, 0].set(1.0)
  params, outputs = _apply(
    x, output_channels=1, kernel_size=3, stride=2, padding=padding
  )
  kernel = ws_conv.standardize_weight(params['conv']['w'], jnp.ones(1))
  before = 0 if padding == 'same' and size % 2 == 0 else 1
  # Output i covers inputs 2i - before to 2i - before + 2.
  response = outputs[0, 1, 1, 0]
  offset = pixel - (2 - before)
  np.testing.assert_allclose(
    response, kernel[offset, offset, 0, 0], rtol=helpers.RTOL_REDUCTION
  )
  assert outputs.shape[1] == (size + 1) // 2


def test_gain_init_and_scale():
  x = jax.random.normal(jax.random.key(1), (1, 4, 4, 8))
  _, zero = _apply(x, output_channels=4, kernel_size=1, gain_init=0.0)
  chex.assert_trees_all_equal(zero, jnp.zeros_like(zero))
  _, one = _apply(x, output_channels=4, kernel_size=1)
  _, two = _apply(x, output_channels=4, kernel_size=1, scale=2.0)
  chex.assert_trees_all_close(two, 2 * one, rtol=helpers.RTOL_REDUCTION)


def test_bfloat16_in_and_out():
  layer = hk.transform(lambda x: ws_conv.WSConv2D(4, 3)(x))
  x = jnp.ones((1, 4, 4, 2), jnp.bfloat16)
  params = layer.init(jax.random.key(0), x)
  params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
  assert layer.apply(params, None, x).dtype == jnp.bfloat16
