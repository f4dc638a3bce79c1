"""Broadcasts have the values and gradients of NumPy's, summed in float32."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from nfnets.layers import broadcast
from tests import helpers

SHAPE = (8, 16, 16, 4)


def _normal(shape, seed=0, dtype=jnp.float32):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(1.0, 1.0, shape), dtype)


@pytest.mark.parametrize('small', [(), (4,), (8, 1, 1, 4), (8, 1, 1, 1)])
def test_broadcast_to_sums_the_gradient_over_the_new_positions(small):
  values, cotangent = _normal(small), _normal(SHAPE, 1)
  outputs, pull = jax.vjp(lambda x: broadcast.broadcast_to(x, SHAPE), values)
  np.testing.assert_array_equal(outputs, np.broadcast_to(values, SHAPE))
  axes = tuple(range(4 - len(small)))
  axes += tuple(len(axes) + i for i, n in enumerate(small) if n == 1)
  expected = np.asarray(cotangent, np.float64).sum(axes).reshape(small)
  np.testing.assert_allclose(
    pull(cotangent)[0], expected, rtol=helpers.RTOL_REDUCTION
  )


@pytest.mark.parametrize(
  'function',
  [
    lambda x, small: broadcast.broadcast_to(small, x.shape),
    lambda x, small: x * broadcast.broadcast_to(small, x.shape),
    broadcast.add_bias,
  ],
  ids=['alone', 'factor', 'bias'],
)
def test_bfloat16_gradients_have_a_single_rounding(function):
  x, small = _normal(SHAPE, 1, jnp.bfloat16), _normal((4,), 2, jnp.bfloat16)
  cotangent = _normal(SHAPE, 3, jnp.bfloat16)
  _, pull = jax.vjp(function, x, small)
  _, exact = jax.vjp(function, *(v.astype(jnp.float32) for v in (x, small)))
  gradient = pull(cotangent)[1]
  assert gradient.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    np.asarray(gradient, np.float32),
    exact(cotangent.astype(jnp.float32))[1],
    rtol=2**-8,
  )


def test_add_bias_of_images_that_are_kept():
  kept = jnp.asarray([1, 0, 1, 1, 0, 1, 0, 1.0]).reshape(8, 1, 1, 1)
  x, bias, cotangent = _normal(SHAPE), _normal((4,), 1), _normal(SHAPE, 2)
  # As after a convolution of inputs that were multiplied by `kept`.
  outputs, pull = jax.vjp(
    lambda x, bias: broadcast.add_bias(kept * x, bias, kept), x, bias
  )
  np.testing.assert_allclose(
    outputs,
    np.asarray(kept) * (np.asarray(x) + np.asarray(bias)[None, None, None]),
    rtol=helpers.RTOL_ELEMENTWISE,
  )
  masked = np.asarray(kept) * np.asarray(cotangent)
  d_x, d_bias = pull(cotangent)
  np.testing.assert_array_equal(d_x, masked)
  np.testing.assert_allclose(
    d_bias, masked.sum((0, 1, 2)), rtol=helpers.RTOL_REDUCTION
  )
