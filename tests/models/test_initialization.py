import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import models
from nfnets.models import initialization

_IMAGES = jnp.zeros((1, 32, 32, 3))


def _forward(images, is_training, keys):
  del is_training, keys
  x = hk.Linear(300, w_init=hk.initializers.RandomNormal(0.1, 2.0))(images)
  return hk.Linear(200)(x)


def _init(key=0):
  return initialization.make_init(_forward)(jax.random.key(key), _IMAGES)


def test_structure_equals_haikus():
  params, state = _init()
  own = hk.transform_with_state(lambda x: _forward(x, True, None))
  expected = own.init(jax.random.key(0), _IMAGES)
  assert jax.tree.map(jnp.shape, (params, state)) == jax.tree.map(
    jnp.shape, expected
  )


def test_distributions_follow_the_initializers():
  params, _ = _init()
  normal = np.asarray(params['linear']['w'])
  assert normal.mean() == pytest.approx(2.0, abs=0.02)
  assert normal.std() == pytest.approx(0.1, rel=0.05)
  # Haiku's default: stddev 1 / sqrt(fan_in), truncated at twice that.
  truncated = np.asarray(params['linear_1']['w']) * np.sqrt(300)
  assert np.abs(truncated).max() <= 2.0
  assert np.abs(truncated).max() > 1.95
  assert truncated.std() == pytest.approx(0.87962566, rel=0.01)
  np.testing.assert_array_equal(params['linear']['b'], np.zeros(300))


def test_parameters_depend_on_the_key_alone():
  first, again, other = _init(), _init(), _init(1)
  np.testing.assert_array_equal(
    first[0]['linear']['w'], again[0]['linear']['w']
  )
  assert np.any(first[0]['linear']['w'] != other[0]['linear']['w'])
  images = jnp.ones((4, 8, 8, 3))
  larger, _ = initialization.make_init(_forward)(jax.random.key(0), images)
  np.testing.assert_array_equal(
    first[0]['linear_1']['w'], larger['linear_1']['w']
  )


def test_no_two_parameters_share_their_draws():
  def forward(images, is_training, keys):
    del is_training, keys
    return hk.Linear(3)(hk.Linear(3)(images))

  params, _ = initialization.make_init(forward)(jax.random.key(0), _IMAGES)
  assert np.all(params['linear']['w'] != params['linear_1']['w'])


def test_a_model_starts_as_published():
  model = models.create_model(
    'resnet50', 10, depth=(1,), widths=(64,), stem_width=16
  )
  params, state = model.init(jax.random.key(0), _IMAGES)
  for name, module in params.items():
    if 'w' in module and 'conv' in name:
      fan_in = np.prod(module['w'].shape[:-1])
      assert np.std(module['w']) == pytest.approx(fan_in**-0.5, rel=0.2), name
  # The running statistics of batch normalization.
  assert state
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))


def test_an_unknown_initializer_is_an_error():
  def forward(images, is_training, keys):
    del is_training, keys
    uniform = hk.initializers.VarianceScaling(1.0, 'fan_in', 'uniform')
    return hk.Linear(3, w_init=uniform)(images)

  with pytest.raises(ValueError, match='uniform'):
    initialization.make_init(forward)(jax.random.key(0), _IMAGES)
