"""Pooling against loops over windows."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from nfnets.layers import pooling
from tests import helpers


@pytest.mark.parametrize('size', [4, 5])
def test_average_pool_does_not_count_padding(size):
  x = np.random.default_rng(0).normal(size=(2, size, size, 3))
  half = (size + 1) // 2
  expected = np.zeros((2, half, half, 3))
  for i in range(half):
    for j in range(half):
      window = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
      expected[:, i, j] = window.mean((1, 2))
  np.testing.assert_allclose(
    pooling.average_pool(jnp.asarray(x, jnp.float32)),
    expected,
    rtol=helpers.RTOL_REDUCTION,
    atol=1e-6,
  )


@pytest.mark.parametrize('size', [6, 7])
@pytest.mark.parametrize('padding', ['same', 'symmetric'])
def test_max_pool_with_either_padding(size, padding):
  x = -1.0 - np.random.default_rng(0).random((1, size, size, 2))
  before = 0 if padding == 'same' and size % 2 == 0 else 1
  half = (size + 1) // 2
  expected = np.zeros((1, half, half, 2))
  for i in range(half):
    for j in range(half):
      top, left = max(0, 2 * i - before), max(0, 2 * j - before)
      bottom, right = 2 * i - before + 3, 2 * j - before + 3
      expected[:, i, j] = x[:, top:bottom, left:right].max((1, 2))
  pooled = pooling.max_pool(jnp.asarray(x, jnp.float32), padding)
  np.testing.assert_allclose(pooled, expected, rtol=helpers.RTOL_ELEMENTWISE)


@pytest.mark.parametrize('size', [6, 7])
@pytest.mark.parametrize('padding', ['same', 'symmetric'])
def test_max_pools_gradient_goes_to_the_first_maximum(size, padding):
  rng = np.random.default_rng(0)
  # Few values, so that most windows have several maxima.
  x = jnp.asarray(rng.integers(0, 3, (2, size, size, 3)), jnp.float32)
  pads = 'SAME' if padding == 'same' else ((0, 0), (1, 1), (1, 1), (0, 0))
  window, stride = (1, 3, 3, 1), (1, 2, 2, 1)
  expected, pull = jax.vjp(
    lambda x: lax.reduce_window(x, -np.inf, lax.max, window, stride, pads), x
  )
  cotangent = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
  outputs, our_pull = jax.vjp(lambda x: pooling.max_pool(x, padding), x)
  np.testing.assert_array_equal(outputs, expected)
  np.testing.assert_allclose(
    our_pull(cotangent)[0],
    pull(cotangent)[0],
    rtol=helpers.RTOL_REDUCTION,
    atol=1e-6,
  )
