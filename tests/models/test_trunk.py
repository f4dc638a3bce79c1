import chex
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from nfnets import models
from nfnets.layers import convolution
from tests import filled, helpers
from tests.golden import fill

# The family that compiles fastest, with two stages: all families have the same
# trunk.
TINY = {'num_classes': 10, 'width': 0.25, 'widths': (64, 128), 'depth': (1, 1)}


def test_dropout_and_stochastic_depth_act_in_training_only():
  images = fill.image(4, 32)

  def logits(training, **rates):
    rates = {'drop_rate': 0.0, 'stochdepth_rate': 0.0, **rates}
    model = models.create_model('nf_resnet50', **TINY, **rates)
    run = jax.jit(model.apply, static_argnums=4)
    key = jax.random.key(1) if training else None
    with convolution.lowering('plain'):
      (outputs, _), _ = run(filled.params(model), {}, key, images, training)
    return np.asarray(outputs)

  plain = logits(False, drop_rate=0.5, stochdepth_rate=0.9)
  np.testing.assert_allclose(
    logits(True), plain, atol=helpers.RTOL_REDUCTION * plain.std()
  )
  for rates in ({'drop_rate': 0.5}, {'stochdepth_rate': 0.9}):
    assert np.abs(logits(True, **rates) - plain).max() > 1e-2 * plain.std()


def test_an_image_draws_from_its_own_key():
  model = models.create_model(
    'nf_resnet50', **TINY, drop_rate=0.5, stochdepth_rate=0.9
  )
  apply = jax.jit(model.apply, static_argnums=4)
  params = filled.params(model)

  def logits(keys):
    with convolution.lowering('plain'):
      return np.asarray(apply(params, {}, keys, images, True)[0][0])

  images = np.concatenate([fill.image(1, 32)] * 4)
  keys = jax.random.split(jax.random.key(5), 4)
  atol = helpers.RTOL_REDUCTION
  rows = logits(keys)
  np.testing.assert_allclose(logits(keys[::-1]), rows[::-1], atol=atol)
  changed = logits(keys.at[2].set(jax.random.key(6)))
  np.testing.assert_allclose(changed[[0, 1, 3]], rows[[0, 1, 3]], atol=atol)
  different = [*rows, changed[2]]
  for i, row in enumerate(different):
    for other in different[:i]:
      assert np.abs(row - other).max() > 1e-2 * rows.std()


def test_one_key_for_the_batch_is_folded_with_the_row():
  small = TINY | {'widths': (64,), 'depth': (1,)}
  model = models.create_model('nf_resnet50', **small, drop_rate=0.5)
  key, images = jax.random.key(5), fill.image(3, 16)

  @jax.jit
  def logits(params):
    own = jnp.stack([jax.random.fold_in(key, i) for i in range(3)])
    return [
      model.apply(params, {}, k, images, True)[0][0]
      for k in (own, key, jax.random.PRNGKey(5))
    ]

  with convolution.lowering('plain'):
    expected, typed, raw = logits(filled.params(model))
  for actual in (typed, raw):
    np.testing.assert_allclose(actual, expected, atol=helpers.RTOL_REDUCTION)


@pytest.mark.parametrize(
  ('key', 'message'),
  [(None, 'key is None'), (jax.random.split(jax.random.key(0), 1), r'\(1,\)')],
)
def test_draws_need_a_key_or_one_per_image(key, message):
  model = models.create_model('nf_resnet50', **TINY, stochdepth_rate=0.9)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda images: model.apply(filled.params(model), {}, key, images, True),
      fill.image(4, 32),
    )


def test_dropout_zeroes_its_fraction_and_scales_the_rest():
  # With a classifier that is the identity, logits are the pooled vector.
  rate, count = 0.3, 300
  model = models.create_model(
    'nf_resnet50',
    **TINY | {'num_classes': 32, 'depth': (2, 1)},
    activation='silu',  # is not 0
    drop_rate=rate,
    stochdepth_rate=0.9,
  )
  params = filled.params(model)
  params['NF_ResNet/~/linear'] = {'w': np.eye(32), 'b': np.zeros(32)}
  with convolution.lowering('plain'):
    (logits, endpoints), _ = jax.jit(model.apply, static_argnums=4)(
      params, {}, jax.random.key(3), fill.image(count, 16), True
    )
  dropped = np.asarray(logits == 0)
  np.testing.assert_allclose(
    logits,
    np.where(dropped, 0, endpoints['pool'] / (1 - rate)),
    rtol=helpers.RTOL_REDUCTION,
  )
  assert len(np.unique(dropped, axis=0)) == count
  skipped = np.all(endpoints['block_1'] == endpoints['block_0'], axis=(1, 2, 3))
  # Rows, channels and block 1, which has the same rate, are independent.
  for mask, expected in (
    (dropped, rate),
    (dropped & np.roll(dropped, 1, axis=0), rate**2),
    (dropped & np.roll(dropped, 1, axis=1), rate**2),
    (dropped[:, 1] & skipped, rate**2),
  ):
    deviation = (expected * (1 - expected) / mask.size) ** 0.5
    assert abs(mask.mean() - expected) < 5 * deviation


@pytest.mark.parametrize('name', ['nf_resnet50', 'resnet50', 'fixup_resnet50'])
def test_each_block_drops_its_fraction_of_the_images(name):
  rate, depth, count = 0.9, (5, 1), 300
  model = models.create_model(
    name, **TINY | {'depth': depth}, stochdepth_rate=rate
  )
  images = fill.image(count, 16)
  _, state = model.init(jax.random.key(0), images[:1])
  with convolution.lowering('plain'):
    (_, endpoints), _ = jax.jit(model.apply, static_argnums=4)(
      filled.params(model), state, jax.random.key(3), images, True
    )
  for i in range(1, depth[0]):
    change = endpoints[f'block_{i}'] - endpoints[f'block_{i - 1}']
    dropped = np.all(np.asarray(change) == 0, axis=(1, 2, 3))
    expected = rate * i / sum(depth)
    deviation = (expected * (1 - expected) / count) ** 0.5
    assert abs(dropped.mean() - expected) < 5 * deviation


def test_blocks_of_one_shape_are_compiled_once():
  def kernels(count):
    model = models.create_model('nf_resnet50', **TINY | {'depth': (count, 1)})

    def loss(params, images):
      return jnp.mean(model.apply(params, {}, None, images, False)[0][0])

    with convolution.lowering('plain'):
      lowered = jax.jit(jax.grad(loss)).lower(
        filled.params(model), fill.image(2, 32)
      )
    return helpers.distinct_kernels(lowered)

  assert len(kernels(6)) == len(kernels(4)) > 0


def test_remat_leaves_gradients_unchanged():
  models_ = [
    models.create_model('nf_resnet50', **TINY, remat=remat)
    for remat in (False, True)
  ]
  images = fill.image(2, 32)

  def loss(params, model):
    key = jax.random.key(2)
    (logits, _), _ = model.apply(params, {}, key, images, True)
    return jnp.mean(logits**2)

  with convolution.lowering('plain'):
    gradients = [
      jax.jit(jax.grad(loss), static_argnums=1)(filled.params(model), model)
      for model in models_
    ]
  chex.assert_trees_all_close(*gradients, rtol=1e-4, atol=1e-6)
