import chex
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from nfnets import errors, models
from nfnets.layers import convolution, pooling
from tests import filled, helpers
from tests.golden import fill

# Layers -> parameters with batch normalization and with Fixup. Integers are
# exact, floats are rounded to thousands.
PARAMETERS = {
  50: (25_549_352, 25_504_026),
  101: (44_541_480, 44_444e3),
  152: (60_185e3, 60_042e3),
  200: (64_666e3, 64_498e3),
  288: (146_453e3, 146_177e3),
  600: (300_639e3, 300_064e3),
}
TINY = {'num_classes': 5, 'width': 0.25, 'depth': (1, 2, 1, 1)}


def _rows():
  for layers, counts in PARAMETERS.items():
    marks = [pytest.mark.slow] if layers > 152 else []
    for prefix, count in zip(('', 'fixup_'), counts, strict=True):
      yield pytest.param(f'{prefix}resnet{layers}', count, marks=marks)


@pytest.mark.parametrize(('name', 'expected'), _rows())
def test_parameter_count(name, expected):
  tolerance = 0 if isinstance(expected, int) else 1000
  count = filled.count(models.create_model(name))
  assert abs(count - expected) <= tolerance


def test_version_1_equals_the_usual_resnet50():
  # As torchvision's ResNet-50 with 1000 classes.
  model = models.create_model('resnet50', preactivation=False)
  assert filled.count(model) == 25_557_032


@pytest.fixture(autouse=True)
def _quick_to_compile():
  with convolution.lowering('plain'):
    yield


def _train(model, images, state=None):
  run = jax.jit(model.apply, static_argnums=4)
  state = filled.state(model) if state is None else state
  return run(filled.params(model), state, jax.random.key(0), images, True)


@pytest.mark.parametrize('preactivation', [True, False])
def test_names_and_state_of_batch_norm(preactivation):
  model = models.create_model('resnet50', preactivation=preactivation)
  version = 2 if preactivation else 1
  names = filled.names(model)
  block = f'ResNet/~/res_block_v{version}'
  channels = 64 if preactivation else 256
  last = 'bn0' if preactivation else 'bn2'
  assert f'{block}/~/{last}/scale (1, 1, 1, {channels})' in names
  assert f'{block}_15/~/conv2/w (1, 1, 512, 2048)' in names
  assert not [name for name in names if name.split(' ')[0].endswith('/b')][1:]
  state = filled.state(model)[f'{block}/~/{last}/~/mean_ema']
  assert sorted(state) == ['average', 'counter', 'hidden']


@pytest.mark.parametrize('preactivation', [True, False])
def test_batch_norm_uses_the_batch_in_training_and_remembers_it(preactivation):
  model = models.create_model('resnet50', **TINY, preactivation=preactivation)
  images = fill.image(4, 32)
  (logits, endpoints), state = _train(model, images)
  # In training the contrast of the batch has no effect.
  (again, _), _ = _train(model, images * 3.0)
  np.testing.assert_allclose(logits, again, rtol=1e-3, atol=1e-3)
  name = 'ResNet/~/' + ('res_block_v2/~/bn0' if preactivation else 'initial_bn')
  average = state[f'{name}/~/mean_ema']['average']
  assert np.abs(average).max() > 0
  assert endpoints['block_4'].shape == (4, 1, 1, 128)
  if preactivation:
    pooled = jnp.mean(
      pooling.max_pool(endpoints['stride_2'], 'same'), (0, 1, 2)
    )
    # After one step, the bias-corrected average equals the mean of the batch.
    np.testing.assert_allclose(average[0, 0, 0], pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['resnet50', 'fixup_resnet50'])
def test_a_stem_for_small_images_keeps_their_resolution(name):
  model = models.create_model(name, **TINY, stem='small')
  (_, endpoints), _ = _train(model, fill.image(2, 16))
  sides = {k: x.shape[1] for k, x in endpoints.items() if 'stride' in k}
  assert sides == {f'stride_{s}': 16 // s for s in (1, 2, 4, 8)}
  stem = filled.params(model)[f'{model.config.family}/~/initial_conv']['w']
  assert stem.shape == (3, 3, 3, 4)


@pytest.mark.parametrize('stem', ['deep', '3x3'])
def test_other_stems_are_refused(stem):
  with pytest.raises(errors.UserError) as caught:
    models.create_model('resnet50', stem=stem)
  assert str(caught.value) == (
    f'stem is {stem!r}, but resnet50 can only have one of 7x7_pool, small'
  )


def test_statistics_across_devices_equal_those_of_one():
  images = fill.image(8, 32)
  model = models.create_model('resnet50', **TINY)
  synced = models.create_model('resnet50', **TINY, batch_norm_axis='devices')
  params, state = filled.params(model), filled.state(model)
  key = jax.random.key(0)
  (one, _), new_state = jax.jit(model.apply, static_argnums=4)(
    params, state, key, images, True
  )

  def apply(images):
    return synced.apply(params, state, key, images, True)

  (four, _), states = jax.pmap(apply, axis_name='devices')(
    images.reshape(4, 2, 32, 32, 3)
  )
  np.testing.assert_allclose(
    np.asarray(four).reshape(8, 5), one, atol=1e-4 * np.std(one)
  )
  chex.assert_trees_all_close(
    jax.tree.map(lambda x: np.asarray(x)[3], states),
    new_state,
    rtol=1e-4,
    atol=1e-5,
  )
  # Parameters are created outside of any pmap.
  jax.eval_shape(synced.init, key, images)


def test_bfloat16_keeps_float32_statistics():
  model = models.create_model('resnet50', **TINY)
  images = fill.image(2, 32)
  params, images = jax.tree.map(
    lambda x: jnp.asarray(x, jnp.bfloat16), (filled.params(model), images)
  )
  (logits, _), state = jax.eval_shape(
    lambda p, x: model.apply(p, filled.state(model), None, x, True),
    params,
    images,
  )
  assert logits.dtype == jnp.bfloat16
  dtypes = {leaf.dtype for leaf in jax.tree.leaves(state)}
  assert dtypes == {jnp.dtype('float32'), jnp.dtype('int32')}


def test_squeeze_excite_is_optional():
  plain = filled.count(models.create_model('resnet50'))
  # The same as in NF-ResNet-50: 35,635,704 - 25,557,048.
  excited = filled.count(models.create_model('resnet50', se_ratio=0.25))
  assert excited - plain == 10_078_656


def test_fixup_has_its_scalars_and_starts_as_its_shortcuts():
  model = models.create_model('fixup_resnet50', **TINY)
  names = filled.names(model)
  block = 'Fixup_ResNet/~/fixup_block'
  for scalar in ('1a', '1b', '2a', '2b', '3a', '3b'):
    assert f'{block}_4/bias{scalar} ()' in names
  assert f'{block}/scale ()' in names
  assert {'Fixup_ResNet/bias1 ()', 'Fixup_ResNet/bias2 ()'} < set(names)
  images = fill.image(1, 32)
  params, state = jax.jit(model.init)(jax.random.key(0), images)
  assert state == {}
  weight = params[f'{block}_1/~/conv1']['w']
  # He's variance by fan-out (9 * 8), times blocks^(-1/2).
  expected = 2 / (9 * 8) / np.sqrt(5)
  np.testing.assert_allclose(jnp.var(weight), expected, rtol=0.2)
  (logits, endpoints), _ = jax.jit(model.apply, static_argnums=4)(
    params, state, None, images, False
  )
  chex.assert_trees_all_equal(
    endpoints['block_2'], jax.nn.relu(endpoints['block_1'])
  )
  chex.assert_trees_all_equal(logits, jnp.zeros((1, 5)))


def test_fixup_block_equals_its_formula():
  model = models.create_model('fixup_resnet50', **TINY)
  params = filled.params(model)
  (_, endpoints), _ = jax.jit(model.apply, static_argnums=4)(
    params, {}, None, fill.image(2, 32), False
  )
  block = 'Fixup_ResNet/~/fixup_block_2'
  scalars = params[block]
  x = endpoints['block_1']

  def conv(name, x):
    return convolution.conv2d(x, jnp.asarray(params[f'{block}/~/{name}']['w']))

  h = conv('conv0', x + scalars['bias1a'])
  h = jax.nn.relu(h + scalars['bias1b'])
  h = jax.nn.relu(conv('conv1', h + scalars['bias2a']) + scalars['bias2b'])
  h = conv('conv2', h + scalars['bias3a']) * scalars['scale']
  expected = jax.nn.relu(x + h + scalars['bias3b'])
  np.testing.assert_allclose(
    endpoints['block_2'],
    expected,
    rtol=helpers.RTOL_FRAMEWORK,
    atol=1e-5,
  )


@pytest.mark.parametrize(
  ('name', 'option'),
  [
    ('resnet50', 'alpha'),
    ('resnet50', 'skip_gain_init'),
    ('fixup_resnet50', 'se_ratio'),
    ('nf_resnet50', 'preactivation'),
  ],
)
def test_options_of_other_families_are_errors(name, option):
  with pytest.raises(ValueError, match=f'{name} has no option {option!r}'):
    models.create_model(name, **{option: 1})


@pytest.mark.parametrize('preactivation', [True, False])
def test_frozen_parts_use_and_keep_their_running_statistics(preactivation):
  model = models.create_model('resnet50', **TINY, preactivation=preactivation)
  images, before = fill.image(4, 32), filled.state(model)
  (_, trained), _ = _train(model, images)
  (_, evaluated), _ = model.apply(
    filled.params(model), before, None, images, False
  )
  frozen = models.frozen(model, 3)  # up to the second stage
  (_, endpoints), after = _train(frozen, images)
  changed = {
    module.split('/')[2]
    for module in before
    if np.any(after[module]['average'] != before[module]['average'])
  }
  version = 2 if preactivation else 1
  block = f'res_block_v{version}'
  first = sum(model.config.depth[:2])
  blocks = {f'{block}_{n}' for n in range(first, sum(model.config.depth))}
  assert changed == blocks | ({'final_bn'} if preactivation else set())
  for n in range(first):
    np.testing.assert_allclose(
      endpoints[f'block_{n}'], evaluated[f'block_{n}'], rtol=1e-4, atol=1e-4
    )
  assert not np.allclose(endpoints['block_0'], trained['block_0'], rtol=1e-2)
