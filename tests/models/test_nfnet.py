import chex
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from nfnets import models
from nfnets.layers import convolution
from nfnets.models import nfnet, scaling
from tests import filled, helpers
from tests.golden import fill

# Of the published code. Integers are exact, floats are rounded to thousands.
PARAMETERS = {
  'nfnet_f0': 71_489_284,
  'nfnet_f1': 132_634_256,
  'nfnet_f2': 193_779_228,
  'nfnet_f3': 254_924_200,
  'nfnet_f4': 316_069_172,
  'nfnet_f5': 377_214_144,
  'nfnet_f6': 438_359_116,
  'nfnet_f7': 499_504_088,
  'nfnet_f0+': 118_824_516,
  'nfnet_f1+': 220_357_008,
  'nfnet_f2+': 321_889e3,
  'nfnet_f3+': 423_421_992,
  'nfnet_f4+': 524_954e3,
  'nfnet_f5+': 626_487e3,
  'nfnet_f6+': 728_019e3,
  'nfnet_f7+': 829_552e3,
}
TINY = {
  'num_classes': 10,
  'width': 0.25,
  'depth': (1, 1, 2, 1),
  'group_size': 32,
  'skip_gain_init': 1.0,
}


def test_every_variant_is_counted():
  assert sorted(PARAMETERS) == sorted(nfnet.VARIANTS)


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    pytest.param(*row, marks=[] if row[0][7] in '012' else [pytest.mark.slow])
    for row in PARAMETERS.items()
  ],
)
def test_parameter_count(name, expected):
  tolerance = 0 if isinstance(expected, int) else 500
  assert abs(filled.count(models.create_model(name)) - expected) <= tolerance


def test_f0_equals_the_published_network():
  golden = helpers.golden()['reference']['NFNet-F0']
  model = models.create_model('nfnet_f0')
  assert filled.names(model) == golden['names']
  filled.assert_golden(filled.logits(model, golden['size']), golden)


@pytest.mark.slow
def test_f0_equals_the_published_network_with_this_platforms_convolutions():
  golden = helpers.golden()['reference']['NFNet-F0']
  model = models.create_model('nfnet_f0')
  apply = jax.jit(model.apply, static_argnums=4)
  images = fill.image(2, golden['size'])
  (logits, _), _ = apply(filled.params(model), {}, None, images, False)
  filled.assert_golden(np.asarray(logits), golden)


def test_published_sizes_and_rates():
  config = models.create_model('nfnet_f6').config
  assert (config.train_size, config.test_size) == (448, 576)
  assert (config.crop_pct, config.crop_mode) == (0.956, 'squash')
  assert (config.drop_rate, config.stochdepth_rate) == (0.5, 0.25)
  assert models.create_model('nfnet_f6+').config.test_size == 576


@pytest.fixture(scope='module')
def tiny():
  model = models.create_model('nfnet_f0', **TINY)
  return model, filled.params(model), {}, fill.image(4, 32)


@pytest.fixture(autouse=True)
def _quick_to_compile(request):
  if 'tiny' in request.fixturenames:
    with convolution.lowering('plain'):
      yield
  else:
    yield


def test_init_is_pure_and_stateless():
  model = models.create_model(
    'nfnet_f0',
    width=0.125,
    depth=(1, 1, 1, 1),
    group_size=16,
    skip_gain_init=1.0,
  )
  images = fill.image(1, 32)
  init = jax.jit(model.init)
  params, state = init(jax.random.key(0), images)
  again, _ = init(jax.random.key(0), images)
  other, _ = init(jax.random.key(1), images)
  assert state == {}
  chex.assert_trees_all_equal(params, again)
  dtypes = {leaf.dtype for leaf in jax.tree.leaves(params)}
  assert dtypes == {jnp.dtype('float32')}
  block = 'NFNet/~/nf_block'
  assert params[block]['skip_gain'] == 1.0
  weight = params[f'{block}/~/conv1']['w']
  np.testing.assert_allclose(jnp.var(weight) * 9 * 16, 1.0, rtol=0.15)
  assert not np.allclose(weight, other[f'{block}/~/conv1']['w'])


def test_endpoints_at_an_odd_size(tiny):
  model, params, state, _ = tiny
  images = jax.ShapeDtypeStruct((2, 39, 39, 3), 'float32')
  (logits, endpoints), _ = jax.eval_shape(
    lambda p, x: model.apply(p, state, None, x, False), params, images
  )
  chex.assert_shape(logits, (2, 10))
  shapes = {name: value.shape for name, value in endpoints.items()}
  assert shapes == {
    'stride_2': (2, 20, 20, 64),
    'stride_4': (2, 10, 10, 64),
    'stride_8': (2, 5, 5, 128),
    'stride_16': (2, 3, 3, 384),
    'stride_32': (2, 2, 2, 768),
    **{f'block_0{suffix}': (2, 10, 10, 64) for suffix in ('', '/residual')},
    **{f'block_1{suffix}': (2, 5, 5, 128) for suffix in ('', '/residual')},
    **{f'block_2{suffix}': (2, 3, 3, 384) for suffix in ('', '/residual')},
    **{f'block_3{suffix}': (2, 3, 3, 384) for suffix in ('', '/residual')},
    **{f'block_4{suffix}': (2, 2, 2, 384) for suffix in ('', '/residual')},
    'pool': (2, 768),
  }


@pytest.mark.parametrize('name', ['nfnet_f0', 'nf_resnet50', 'nf_regnet_b0'])
def test_a_stem_for_small_images_keeps_their_resolution(name):
  options = {'num_classes': 10, 'stem': 'small', 'depth': (1, 1, 1, 1)}
  model = models.create_model(name, **options)
  images = jax.ShapeDtypeStruct((2, 32, 32, 3), 'float32')
  params, state = jax.eval_shape(model.init, jax.random.key(0), images)
  (_, endpoints), _ = jax.eval_shape(
    lambda p, x: model.apply(p, state, None, x, False), params, images
  )
  sides = {k: x.shape[1] for k, x in endpoints.items() if 'stride' in k}
  assert sides == {f'stride_{s}': 32 // s for s in (1, 2, 4, 8)}
  stem = params[f'{model.config.family}/~/initial_conv']['w']
  assert stem.shape == (3, 3, 3, scaling.stem_channels(model.config))


def test_unread_endpoints_cost_nothing(tiny):
  model, params, state, images = tiny

  def logits(params, images):
    return model.apply(params, state, None, images, False)[0][0]

  def everything(params, images):
    return model.apply(params, state, None, images, False)[0]

  small, large = (
    jax.jit(f).lower(params, images).compile().memory_analysis()
    for f in (logits, everything)
  )
  assert small.output_size_in_bytes == 4 * 10 * 4
  assert large.output_size_in_bytes > 100 * small.output_size_in_bytes


def test_a_backbone_returns_the_pooled_vector(tiny):
  _, params, state, images = tiny
  backbone = models.create_model('nfnet_f0', **{**TINY, 'num_classes': 0})
  assert 'NFNet/~/linear' not in filled.shapes(backbone)
  headless = {k: v for k, v in params.items() if k != 'NFNet/~/linear'}
  (pooled, endpoints), _ = jax.jit(backbone.apply, static_argnums=4)(
    headless, state, None, images, False
  )
  chex.assert_shape(pooled, (4, 768))
  chex.assert_trees_all_equal(pooled, endpoints['pool'])


def test_bfloat16_throughout(tiny):
  model, params, state, images = tiny
  params, images = jax.tree.map(
    lambda x: x.astype(jnp.bfloat16), (params, images)
  )
  (logits, endpoints), _ = jax.eval_shape(
    lambda p, x: model.apply(p, state, None, x, False), params, images
  )
  dtypes = {leaf.dtype for leaf in jax.tree.leaves((logits, endpoints))}
  assert dtypes == {jnp.dtype(jnp.bfloat16)}
