import collections

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nfnets.optim import agc
from tests import filled, helpers

# Shape -> shape of the norms: what one unit is.
UNITS = {
  (): (),
  (7,): (1,),
  (5, 7): (1, 7),
  (1, 7): (1, 7),
  (3, 5, 7): (1, 1, 7),
  (3, 2, 5, 7): (1, 1, 1, 7),
  (1, 1, 1, 7): (1, 1, 1, 7),
  (2, 3, 2, 5, 7): (1, 1, 1, 1, 7),
}


def normal(shape, seed=0, scale=1.0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)


def clip(grads, params, **kwargs):
  optimizer = agc.adaptive_grad_clip(**kwargs)
  return optimizer.update(grads, optimizer.init(params), params)


def f0_tree() -> tuple[dict, dict]:
  """Returns filled parameters of F0, and gradients around their limits.

  Two of each name and shape: more of them would only compile longer.
  """
  names = helpers.golden()['reference']['NFNet-F0']['names']
  kinds = collections.Counter()
  chosen = []
  for name in names:
    kind = name.rpartition('/')[2]
    kinds[kind] += 1
    chosen += [name] if kinds[kind] <= 2 else []
  params = filled.from_names(chosen)
  rng = np.random.default_rng(1)

  def gradient(weight):
    columns = np.float32(0.01 * rng.lognormal(size=weight.shape[-1:]))
    return columns * np.flip(weight)

  grads = {
    module: {name: gradient(weight) for name, weight in leaves.items()}
    for module, leaves in params.items()
  }
  return params, grads


@pytest.mark.parametrize('shape', UNITS, ids=str)
def test_norm_of_every_rank(shape):
  x = normal(shape)
  norms = agc.unitwise_norm(x)
  assert norms.shape == UNITS[shape] and norms.dtype == jnp.float32
  units = np.asarray(x, np.float64).reshape(-1, norms.size)
  expected = np.sqrt((units**2).sum(axis=0))
  np.testing.assert_allclose(
    norms.reshape(-1), expected, rtol=helpers.RTOL_ELEMENTWISE
  )


def test_norm_refuses_rank_six():
  with pytest.raises(ValueError, match=r'\(1, 1, 2, 1, 1, 3\).*rank 6'):
    agc.unitwise_norm(jnp.zeros((1, 1, 2, 1, 1, 3)))


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_norms_are_float32_for_every_dtype(dtype):
  """Sums of 4096 squares of 16 stall in bfloat16 and overflow in float16."""
  norms = agc.unitwise_norm(jnp.full((4096, 2), 16, dtype))
  assert norms.dtype == jnp.float32
  np.testing.assert_array_equal(norms, 1024)


def test_clips_to_a_fraction_of_the_weights_by_hand():
  params = {'w': jnp.array([[3.0, 0.0], [4.0, 0.0]])}
  grads = {'w': jnp.array([[0.6, 6.0], [0.8, 8.0]])}
  clipped, state = clip(grads, params, clipping=0.1, eps=0.01)
  # Norms of the weights: 5, 0, so limits 0.5, 0.001. Of the gradients: 1, 10.
  expected = [[0.3, 0.0006], [0.4, 0.0008]]
  np.testing.assert_allclose(
    clipped['w'], expected, rtol=helpers.RTOL_ELEMENTWISE
  )
  assert state.clipped == 1


def test_gradients_within_the_limit_are_untouched():
  params = normal((3, 3, 4, 8))
  grads = normal((3, 3, 4, 8), seed=1, scale=1e-3)
  clipped, state = clip(grads, params)
  np.testing.assert_array_equal(clipped, grads)
  assert state.clipped == 0


def test_equals_optax_on_all_shapes_of_f0_and_counts_its_units():
  params, grads = f0_tree()
  clipped, state = jax.jit(lambda g, p: clip(g, p))(grads, params)
  theirs = optax.adaptive_grad_clip(0.01)
  expected, _ = jax.jit(theirs.update)(grads, optax.EmptyState(), params)
  chex.assert_trees_all_close(
    clipped, expected, rtol=helpers.RTOL_ELEMENTWISE, atol=0
  )
  above, units = 0, 0
  for grad, weight in zip(
    jax.tree.leaves(grads), jax.tree.leaves(params), strict=True
  ):
    columns = grad.shape[-1] if grad.ndim > 1 else 1
    norms = np.linalg.norm(grad.reshape(-1, columns), axis=0)
    limits = np.linalg.norm(weight.reshape(-1, columns), axis=0)
    above += (norms > 0.01 * np.maximum(limits, 1e-3)).sum()
    units += columns
  assert 0.1 < above / units < 0.9
  np.testing.assert_allclose(state.clipped, above / units, rtol=1e-3)


def test_masked_parameters_are_neither_clipped_nor_counted():
  params = {'a': jnp.ones((2, 3)), 'b': jnp.ones((2, 5))}
  grads = {
    'a': jnp.ones((2, 3)) * jnp.array([[1.0, 0.0, 0.0]]),
    'b': jnp.ones((2, 5)),
  }
  clipped, state = clip(grads, params, mask={'a': True, 'b': False})
  np.testing.assert_array_equal(clipped['b'], grads['b'])
  np.testing.assert_allclose(state.clipped, 1 / 3)
  _, state = clip(grads, params, mask={'a': False, 'b': False})
  assert state.clipped == 0


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float32])
def test_result_has_the_dtype_of_the_gradient(dtype):
  params = normal((4, 8))
  grads = normal((4, 8), seed=1).astype(dtype)
  clipped, state = clip(grads, params)
  assert clipped.dtype == dtype and state.clipped.dtype == jnp.float32
  ratio = agc.unitwise_norm(clipped) / agc.unitwise_norm(params)
  np.testing.assert_allclose(ratio, 0.01, rtol=5e-3)


def test_zero_gradients_of_zero_weights_stay_zero():
  zeros = {'gain': jnp.zeros(()), 'w': jnp.zeros((3, 4))}
  clipped, state = clip(zeros, zeros)
  chex.assert_trees_all_equal(clipped, zeros)
  assert state.clipped == 0


def test_a_zero_skip_gain_moves_by_at_most_clipping_times_eps():
  clipped, _ = clip(jnp.array(-3.0), jnp.array(0.0))
  np.testing.assert_allclose(clipped, -1e-5, rtol=helpers.RTOL_ELEMENTWISE)


@pytest.mark.parametrize('bad', [jnp.nan, jnp.inf])
def test_gradients_that_are_not_finite_stay_so(bad):
  grads = jnp.ones((2, 3)).at[0, 1].set(bad)
  clipped, _ = clip(grads, jnp.ones((2, 3)))
  assert jnp.isnan(clipped[0, 1])
  assert jnp.isfinite(clipped[:, [0, 2]]).all()
  if jnp.isnan(bad):
    assert jnp.isnan(clipped[1, 1])


def test_differs_from_optax_as_documented():
  theirs = optax.adaptive_grad_clip(0.01)
  for shape in [(3, 5, 7), (1, 7), (1, 1, 1, 7)]:
    params, grads = normal(shape), normal(shape, seed=1)
    ours, _ = clip(grads, params)
    expected, _ = theirs.update(grads, optax.EmptyState(), params)
    assert not np.allclose(ours, expected, rtol=0.01), shape


def test_clipped_fraction_is_found_anywhere_in_a_chain():
  params = {'w': jnp.ones((2, 4))}
  optimizer = optax.chain(
    optax.trace(0.9), optax.masked(agc.adaptive_grad_clip(), {'w': True})
  )
  _, state = optimizer.update(params, optimizer.init(params), params)
  assert optax.tree.get(state, 'clipped') == 1


@pytest.mark.parametrize('kwargs', [{'clipping': 0.0}, {'eps': -1.0}])
def test_invalid_settings_are_refused(kwargs):
  with pytest.raises(ValueError, match=str(list(kwargs.values())[0])):
    agc.adaptive_grad_clip(**kwargs)


def test_needs_the_parameters():
  optimizer = agc.adaptive_grad_clip()
  with pytest.raises(ValueError, match='parameters'):
    optimizer.update(jnp.ones(3), optimizer.init(jnp.ones(3)))


def test_vectors_of_one_shape_are_clipped_together():
  """A deep network has thousands, and XLA would compile each separately."""
  clip = agc.adaptive_grad_clip(0.01)

  def operations(count):
    params = {f'gain_{i}': jnp.ones(8) for i in range(count)}
    update = jax.jit(lambda g, p: clip.update(g, clip.init(p), p)[0])
    return update.lower(params, params).as_text().count('stablehlo.reduce')

  assert operations(20) == operations(2) > 0


def test_kernels_do_not_grow_with_the_number_of_parameters():
  clip = agc.adaptive_grad_clip(0.01)

  def kernels(count):
    shapes = {'gain': (8,), 'w': (5, 7), 'skip_gain': ()}
    params = {
      f'{name}_{i}': jnp.ones(shape)
      for name, shape in shapes.items()
      for i in range(count)
    }
    update = jax.jit(lambda g, p: clip.update(g, clip.init(p), p)[0])
    return helpers.distinct_kernels(update.lower(params, params))

  assert len(kernels(24)) == len(kernels(12)) > 0


def test_huge_gradients_are_clipped_to_the_limit_too():
  # Close to where their squares overflow float32.
  grad = jnp.float32(1e18)
  clipped, state = clip({'gain': grad}, {'gain': jnp.float32(2.0)})
  np.testing.assert_allclose(
    clipped['gain'], 0.01 * 2.0, rtol=helpers.RTOL_ELEMENTWISE
  )
  assert state.clipped == 1


def test_update_refuses_rank_six():
  grads = jnp.ones((1, 1, 2, 1, 1, 3))
  with pytest.raises(ValueError, match=r'\(1, 1, 2, 1, 1, 3\).*rank 6'):
    clip(grads, grads)


def test_updates_outside_jit_compile_once(caplog):
  optimizer = agc.adaptive_grad_clip(0.01)
  params = {'gain': jnp.ones(11), 'w': jnp.ones((13, 11))}
  state = optimizer.init(params)
  optimizer.update(params, state, params)
  with jax.log_compiles():
    optimizer.update(params, state, params)
  assert 'Compiling' not in caplog.text
