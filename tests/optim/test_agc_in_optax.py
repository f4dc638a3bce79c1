"""AGC inside `optax.inject_hyperparams`, traced, and with other dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nfnets.optim import agc
from tests import helpers
from tests.optim.test_agc import clip, normal


def _tree(dtype, seed):
  shapes = {'w': (4, 8), 'gain': (8,), 'skip_gain': ()}
  tree = {name: normal(shape, seed) for name, shape in shapes.items()}
  if jnp.issubdtype(dtype, jnp.complexfloating):
    tree = {
      name: x + 1j * normal(x.shape, seed + 10) for name, x in tree.items()
    }
  return jax.tree.map(lambda x: x.astype(dtype), tree)


def _assert_close(actual, expected):
  """Within two roundings of the dtype."""
  for one, other in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    assert one.dtype == other.dtype
    narrow = one.dtype == jnp.bfloat16
    wide = jnp.float32 if narrow else one.dtype
    np.testing.assert_allclose(
      one.astype(wide),
      other.astype(wide),
      rtol=2**-7 if narrow else helpers.RTOL_ELEMENTWISE,
    )


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16, jnp.complex64])
@pytest.mark.parametrize('kind', ['constant', 'schedule'])
def test_hyperparameters_are_injected_as_into_optax(kind, dtype):
  params, grads = _tree(dtype, 0), _tree(dtype, 1)
  schedule = optax.linear_schedule(0.5, 0.1, 2)
  clipping = schedule if kind == 'schedule' else 0.3

  def updates(factory):
    optimizer = optax.inject_hyperparams(factory)(clipping=clipping)
    update = jax.jit(optimizer.update)
    state = optimizer.init(params)
    first, state = update(grads, state, params)
    second, state = update(grads, state, params)
    return first, second

  found = updates(agc.adaptive_grad_clip)
  values = (0.5, 0.3) if kind == 'schedule' else (0.3, 0.3)
  for value, clipped in zip(values, found, strict=True):
    optimizer = agc.adaptive_grad_clip(value)
    expected, state = jax.jit(optimizer.update)(
      grads, optimizer.init(params), params
    )
    assert state.clipped > 0
    _assert_close(clipped, expected)
  if dtype != jnp.bfloat16:  # optax's norms are bfloat16 then
    _assert_close(found, updates(optax.adaptive_grad_clip))


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16, jnp.complex64])
def test_clipping_may_be_traced(dtype):
  params, grads = _tree(dtype, 0), _tree(dtype, 1)

  def clipped(clipping):
    return clip(grads, params, clipping=clipping)[0]

  traced = jax.jit(clipped)
  for value in (0.3, 0.03):
    constant = jax.jit(lambda value=value: clipped(value))
    _assert_close(traced(value), constant())


def test_complex_gradients_are_clipped_by_their_modulus():
  params, grads = _tree(jnp.complex64, 0), _tree(jnp.complex64, 1)
  clipped, state = clip(grads, params, clipping=0.9)
  units = 0
  for name, grad in grads.items():
    columns = 8 if name == 'w' else 1
    # Real and imaginary parts of a unit, as one real unit of twice the length.
    g, w = (
      np.concatenate([x.real.reshape(-1, columns), x.imag.reshape(-1, columns)])
      for x in (np.asarray(grad), np.asarray(params[name]))
    )
    limit = 0.9 * np.linalg.norm(w, axis=0)
    factor = np.minimum(1, limit / np.linalg.norm(g, axis=0))
    units += (factor < 1).sum()
    factor = factor if name == 'w' else factor[0]
    np.testing.assert_allclose(
      clipped[name], np.asarray(grad) * factor, rtol=helpers.RTOL_ELEMENTWISE
    )
  # 8 units of the matrix and one each of the others: some within their limit.
  assert 0 < units < 10
  np.testing.assert_allclose(state.clipped, units / 10)
  theirs = optax.adaptive_grad_clip(0.9)
  expected, _ = theirs.update(grads, optax.EmptyState(), params)
  _assert_close(clipped, expected)
