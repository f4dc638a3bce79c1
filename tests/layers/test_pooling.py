"""Pooling against loops over windows."""

import numpy as np
import pytest
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
