import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.optim import sam

RHO = 0.5


def loss(params, batch):
  hidden = jnp.tanh(batch['x'] @ params['w'] + params['b'][None])
  return jnp.mean((hidden.sum(axis=1) - batch['y']) ** 2)


def grad_fn(params, batch):
  value, grads = jax.value_and_grad(loss)(params, batch)
  return grads, value


def example(size=10):
  rng = np.random.default_rng(0)
  params = {'w': rng.standard_normal((3, 4)), 'b': rng.standard_normal(4)}
  batch = {'x': rng.standard_normal((size, 3)), 'y': rng.standard_normal(size)}
  to_jax = functools.partial(jax.tree.map, lambda x: jnp.asarray(x, 'float32'))
  return to_jax(params), to_jax(batch)


def by_hand(params, batch, part):
  """Computes both gradients in float64."""

  def gradients(w, b, x, y):
    hidden = np.tanh(x @ w + b)
    error = 2 * (hidden.sum(axis=1) - y) / len(y)
    inner = error[:, None] * (1 - hidden**2)
    return x.T @ inner, inner.sum(axis=0)

  w, b, x, y = (
    np.asarray(a, np.float64)
    for a in (params['w'], params['b'], batch['x'], batch['y'])
  )
  up_w, up_b = gradients(w, b, x[:part], y[:part])
  scale = RHO / np.sqrt((up_w**2).sum() + (up_b**2).sum())
  return gradients(w + scale * up_w, b + scale * up_b, x, y)


@pytest.mark.parametrize('share, part', [(0.2, 2), (1.0, 10), (0.01, 1)])
def test_equals_two_gradients_by_hand(share, part):
  params, batch = example()
  grads, _ = sam.sam_gradient(grad_fn, params, RHO, batch, sam_share=share)
  expected_w, expected_b = by_hand(params, batch, part)
  for ours, expected in ((grads['w'], expected_w), (grads['b'], expected_b)):
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
  plain, _ = grad_fn(params, batch)
  assert not np.allclose(plain['w'], grads['w'], rtol=0.01)


def test_auxiliary_values_are_from_the_moved_point():
  params, batch = example()
  _, moved = sam.sam_gradient(grad_fn, params, RHO, batch, sam_share=1.0)
  assert moved > loss(params, batch)


def test_rho_0_gives_the_plain_gradient():
  params, batch = example()
  grads, value = sam.sam_gradient(grad_fn, params, 0.0, batch)
  expected, expected_value = grad_fn(params, batch)
  assert value == expected_value
  jax.tree.map(np.testing.assert_array_equal, grads, expected)


def test_a_zero_ascent_gradient_does_not_move():
  params, batch = example()
  batch = {'x': jnp.zeros((10, 3)), 'y': jnp.zeros(10)}
  params = {'w': params['w'], 'b': jnp.zeros(4)}
  grads, _ = sam.sam_gradient(grad_fn, params, RHO, batch)
  jax.tree.map(
    np.testing.assert_array_equal, grads, jax.tree.map(jnp.zeros_like, params)
  )


def test_the_move_is_made_in_float32():
  """Adding 1e-4 to 1 changes nothing in bfloat16."""
  seen = []

  def cast_inside(params, batch):
    seen.append(params)
    half = params.astype(jnp.bfloat16)
    return jax.grad(lambda p: (p * batch.mean()).sum())(half), None

  sam.sam_gradient(cast_inside, jnp.ones(4), 2e-4, jnp.ones(5, jnp.bfloat16))
  np.testing.assert_allclose(seen[1] - seen[0], 1e-4, rtol=1e-3)


@pytest.mark.parametrize('rho, share', [(-1.0, 0.2), (0.1, 0.0), (0.1, 1.5)])
def test_invalid_settings_are_refused(rho, share):
  params, batch = example()
  with pytest.raises(ValueError, match=f'{rho}|{share}'):
    sam.sam_gradient(grad_fn, params, rho, batch, sam_share=share)
