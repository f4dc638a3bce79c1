"""Standardization against its definition; `test_ws_conv` has its properties."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from nfnets.layers.convolution import standardization
from tests import helpers

SHAPE = (3, 3, 8, 16)
FAN_IN = 3 * 3 * 8


def _weight(scale=1.0, shift=0.3, shape=SHAPE):
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(shift, scale, shape), jnp.float32)


def _gain():
  return 1.0 + 0.1 * _weight(shift=0.0, shape=(16,))


def _definition(weight, gain, floor, offset):
  mean = jnp.mean(weight, (0, 1, 2), keepdims=True)
  variance = jnp.mean((weight - mean) ** 2, (0, 1, 2), keepdims=True)
  square = jnp.maximum(FAN_IN * (variance + offset), floor)
  return (weight - mean) * gain.reshape(1, 1, 1, -1) / jnp.sqrt(square)


@pytest.mark.parametrize(
  ('floor', 'offset'), [(1e-4, 0.0), (0.0, 1e-5)], ids=['floor', 'offset']
)
@pytest.mark.parametrize('scale', [1.0, 1e-4], ids=['wide', 'below the floor'])
def test_value_and_derivative_are_those_of_the_definition(floor, offset, scale):
  weight, gain = _weight(scale, 0.3 * scale), _gain()
  # Not the weights themselves: the derivative along them is zero.
  probe = jnp.cos(jnp.arange(weight.size, dtype=jnp.float32)).reshape(SHAPE)

  def outputs(function):
    value, transpose = jax.vjp(function, weight, gain)
    return value, *transpose(probe)

  @jax.jit
  def both():
    return outputs(
      lambda w, g: standardization.standardize(w, g, floor=floor, offset=offset)
    ), outputs(lambda w, g: _definition(w, g, floor, offset))

  for actual, expected in zip(*both(), strict=True):
    size = float(jnp.max(jnp.abs(expected)))
    np.testing.assert_allclose(
      actual, expected, rtol=0, atol=helpers.RTOL_REDUCTION * size
    )


def test_filters_far_from_zero_lose_no_digit():
  """Variance as a difference of mean squares would lose all of its digits."""
  rng = np.random.default_rng(5)
  weight = (10 + 0.01 * rng.standard_normal((3, 3, 8, 4))).astype(np.float32)
  wide = weight.astype(np.float64)
  deviations = wide - wide.mean((0, 1, 2))
  expected = deviations / np.sqrt(np.sum(deviations**2, (0, 1, 2)))
  actual = standardization.standardize(
    jnp.asarray(weight), jnp.ones(4), floor=1e-4, offset=0.0
  )
  # The mean itself is known to 1e-6 of 10, a thousandth of the deviations.
  np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3)


def test_statistics_of_bfloat16_filters_are_float32():
  # 4096 numbers: their sum in bfloat16 would stop growing at 256.
  weight = _weight(shape=(4, 4, 256, 2)).astype(jnp.bfloat16)
  actual = standardization.standardize(
    weight, jnp.ones(2, jnp.bfloat16), floor=1e-4, offset=0.0
  )
  wide = np.asarray(weight, np.float64)
  expected = wide - wide.mean((0, 1, 2))
  expected /= np.sqrt(np.sum(expected**2, (0, 1, 2)))
  assert actual.dtype == jnp.bfloat16
  # One rounding of the result.
  np.testing.assert_allclose(
    np.asarray(actual, np.float64), expected, rtol=2**-8, atol=1e-6
  )
