import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nfnets.optim import masks, optimizer, schedules
from tests import helpers


def example(seed=0):
  """Returns tensors of every group, with Haiku's names."""
  shapes = {
    'NFNet/~/linear': {'w': (6, 3), 'b': (3,)},
    'NFNet/~/nf_block': {'skip_gain': ()},
    'NFNet/~/nf_block/~/conv0': {'w': (3, 3, 2, 4), 'gain': (4,)},
    'NFNet/~/nf_block/~/squeeze_excite/~/linear': {'w': (4, 2)},
  }
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda shape: jnp.asarray(rng.standard_normal(shape), jnp.float32),
    shapes,
    is_leaf=lambda x: isinstance(x, tuple),
  )


def run(transformation, params, steps=4):
  state = transformation.init(params)
  for step in range(steps):
    grads = example(seed=100 + step)
    updates, state = transformation.update(grads, state, params)
    params = optax.apply_updates(params, updates)
  return params, state


def unit_norm(x):
  axes = tuple(range(x.ndim - 1)) if x.ndim > 1 else None
  return np.sqrt((x**2).sum(axis=axes, keepdims=True))


def by_hand(path, param, rates, *, nesterov=True, decay, clipping=0.01):
  """Computes the published update of one tensor in float64."""
  module, name = path
  weight = np.asarray(param, np.float64)
  buffer = np.zeros_like(weight)
  for step, rate in enumerate(rates):
    grad = np.asarray(example(seed=100 + step)[module][name], np.float64)
    if clipping is not None and path != ('NFNet/~/linear', 'w'):
      norm = unit_norm(grad)
      limit = clipping * np.maximum(unit_norm(weight), 1e-3)
      grad = grad * np.where(norm > limit, limit / norm, 1)
    if name == 'w':
      grad = grad + decay * weight
    buffer = 0.9 * buffer + grad
    weight = weight - rate * (grad + 0.9 * buffer if nesterov else buffer)
  return weight


@pytest.mark.parametrize('nesterov', [True, False])
@pytest.mark.parametrize('clipping', [0.01, None])
def test_four_steps_equal_the_formulas(nesterov, clipping):
  schedule = schedules.warmup_cosine(0.5, 2, 10)
  params = example()
  new, _ = run(
    optimizer.make_optimizer(
      schedule, nesterov=nesterov, weight_decay=0.1, clipping=clipping
    ),
    params,
  )
  rates = [float(schedule(step)) for step in range(4)]
  assert rates[:3] == [0, 0.25, 0.5]
  for module, tensors in params.items():
    for name, param in tensors.items():
      expected = by_hand(
        (module, name),
        param,
        rates,
        nesterov=nesterov,
        decay=0.1,
        clipping=clipping,
      )
      np.testing.assert_allclose(
        new[module][name], expected, rtol=1e-5, atol=1e-6
      )


@pytest.mark.parametrize('nesterov', [True, False])
@pytest.mark.parametrize('decay', [0.1, 0.0])
def test_equals_the_chain_of_optax(nesterov, decay):
  params = example()
  ours = optimizer.make_optimizer(
    0.5, nesterov=nesterov, weight_decay=decay, clipping=None
  )
  theirs = optax.chain(
    optax.add_decayed_weights(decay, masks.decay_mask),
    optax.sgd(0.5, momentum=0.9, nesterov=nesterov),
  )
  new, state = run(ours, params)
  expected, expected_state = run(theirs, params)
  chex.assert_trees_all_close(
    new, expected, rtol=helpers.RTOL_REDUCTION, atol=1e-6
  )
  chex.assert_trees_all_close(
    jax.tree.leaves(state),
    jax.tree.leaves(expected_state),
    rtol=helpers.RTOL_REDUCTION,
    atol=1e-6,
  )


def test_the_update_does_not_copy_the_parameters():
  shape = jax.ShapeDtypeStruct((1024, 512), jnp.float32)
  params = {'NFNet/~/linear': {'w': shape}}
  optim = optimizer.make_optimizer(0.5)

  def update(params, state, grads):
    updates, state = optim.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  compiled = (
    jax.jit(update, donate_argnums=(0, 1))
    .lower(params, jax.eval_shape(optim.init, params), params)
    .compile()
  )
  assert compiled.memory_analysis().temp_size_in_bytes < 1024 * 512


def test_frozen_parameters_do_not_change_and_have_no_momentum():
  params = example()
  optim = optimizer.make_optimizer(0.5, trainable=masks.head_mask)
  new, state = run(optim, params)
  head = 'NFNet/~/linear'
  frozen = {name: new[name] for name in new if name != head}
  chex.assert_trees_all_equal(
    frozen, {name: params[name] for name in new if name != head}
  )
  unfrozen, _ = run(optimizer.make_optimizer(0.5), params)
  chex.assert_trees_all_equal(new[head], unfrozen[head])
  arrays = [x for x in jax.tree.leaves(state) if x.ndim]
  assert sorted(x.shape for x in arrays) == [(3,), (6, 3)]
  # The head's bias is the only unit to clip, and its gradients are large.
  assert optax.tree.get(state, 'clipped') == 1


def test_the_compiled_update_equals_the_eager_one():
  params = example()
  optim = optimizer.make_optimizer(schedules.warmup_constant(0.5, 2))
  eager, _ = run(optim, params)
  compiled, _ = run(
    optax.GradientTransformation(optim.init, jax.jit(optim.update)), params
  )
  chex.assert_trees_all_close(
    eager, compiled, rtol=helpers.RTOL_REDUCTION, atol=1e-6
  )


def test_groups_are_described_and_counted():
  groups = optimizer.describe_groups(example(), weight_decay=2e-5)
  rows = {group.name: group[1:] for group in groups}
  assert rows == {
    'weights': (2, 72 + 8, 'AGC 0.01, weight decay 2e-05, momentum'),
    'gains and biases': (3, 3 + 1 + 4, 'AGC 0.01, momentum'),
    'classifier weight': (1, 18, 'weight decay 2e-05, momentum'),
  }


def test_groups_of_shapes_without_clipping_or_decay():
  shapes = jax.eval_shape(example)
  groups = optimizer.describe_groups(
    shapes, weight_decay=0, clipping=None, trainable=masks.head_mask
  )
  rows = {group.name: group[1:] for group in groups}
  assert rows == {
    'gains and biases': (1, 3, 'momentum'),
    'classifier weight': (1, 18, 'momentum'),
    'frozen': (4, 72 + 8 + 5, 'nothing'),
  }


def test_the_global_norm_limits_the_whole_gradient():
  params, grads = example(), example(seed=100)
  norm = float(optax.global_norm(grads))

  def change(limit):
    update = optimizer.make_optimizer(
      1.0, momentum=0.0, weight_decay=0.0, clipping=None, clip_norm=limit
    )
    return update.update(grads, update.init(params), params)[0]

  # The classifier's weight too.
  chex.assert_trees_all_close(
    change(norm / 4),
    jax.tree.map(lambda x: -x / 4, grads),
    rtol=helpers.RTOL_REDUCTION,
  )
  chex.assert_trees_all_equal(change(2 * norm), change(None))


def test_groups_with_a_limit_of_the_norm():
  groups = optimizer.describe_groups(
    example(), weight_decay=0, clipping=None, clip_norm=1.5
  )
  assert {group.applies for group in groups} == {'norm 1.5, momentum'}
