"""Settings to parts: lengths, batch sizes, model, optimizer, freezing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import errors
from nfnets.experiment import build
from nfnets.experiment import config as config_lib


@pytest.fixture
def config():
  config = config_lib.base()
  config.model.name = 'nfnet_f0'
  config.model.width = 0.0625
  config.model.depth = (1, 1, 1, 1)
  config.model.group_size = 8
  return config


def test_lengths_come_from_epochs(config):
  config.train.batch_size = 64
  config.train.epochs = 15.0
  config.optimizer.warmup_epochs = 2.0
  config.eval.every_epochs = 5.0
  config.checkpoint.every_steps = 7
  assert build.lengths(config, 1437) == (336, 44, 112, 7)


@pytest.mark.parametrize(
  'epochs, warmup, expected',
  [(0.01, 0.0, '0 steps of batch 64'), (2.0, 2.0, 'warm-up of 44 steps')],
)
def test_runs_without_steps_are_errors(config, epochs, warmup, expected):
  config.train.batch_size = 64
  config.train.epochs = epochs
  config.optimizer.warmup_epochs = warmup
  with pytest.raises(errors.UserError, match=expected):
    build.lengths(config, 1437)


@pytest.mark.parametrize(
  'size, accumulation, nearest',
  [(6, 1, '4 or 8'), (20, 2, '16 or 24'), (3, 1, 'use 4')],
)
def test_batch_sizes_that_do_not_divide(config, size, accumulation, nearest):
  config.train.batch_size = size
  config.train.accumulation = accumulation
  with pytest.raises(errors.UserError, match=nearest):
    build.check_batch_size(config, 4)


def test_the_learning_rate_grows_with_the_batch(config):
  length = build.Lengths(100, 10, 10, 10)
  assert build.make_schedule(config, length)(10) == pytest.approx(1.6)
  config.optimizer.learning_rate_batch = 0
  assert build.make_schedule(config, length)(10) == pytest.approx(0.1)


def test_settings_change_the_model_and_none_keeps_its_table(config):
  model = build.make_model(config, 10)
  assert model.config.width == 0.0625
  assert model.config.num_classes == 10
  # None in the settings.
  assert model.config.drop_rate == 0.2
  assert model.config.alpha == 0.2


@pytest.mark.parametrize(
  'changes, expected',
  [
    ({'name': 'nfnet_g0'}, "config.model.name: no model is named 'nfnet_g0'"),
    ({'activation': 'gelou'}, "config.model: activation is 'gelou', expected"),
    ({'depth': (1, 2)}, r'config.model: depth is \(1, 2\), expected 4 stages'),
    ({'group_size': 48}, 'config.model: a bottleneck of 8 channels'),
  ],
)
def test_settings_that_no_model_has(config, changes, expected):
  config.model.update(changes)
  with pytest.raises(errors.UserError, match=expected):
    build.make_model(config, 10)


def test_more_steps_than_a_counter_holds_are_an_error(config):
  config.train.batch_size = 1
  config.train.epochs = 1e9
  with pytest.raises(errors.UserError, match='1437000000000 steps of batch 1'):
    build.lengths(config, 1437)


def shapes(model):
  images = jnp.ones((1, 32, 32, 3))
  return jax.eval_shape(model.init, jax.random.key(0), images)[0]


@pytest.mark.parametrize(
  'clipping, freeze, expected',
  [
    (0.01, 'none', 'AGC 0.01, weight decay 2e-05, momentum'),
    (0.0, 'none', 'weight decay 2e-05, momentum'),
    (0.01, 'all', 'nothing'),
    (0.01, True, 'nothing'),
  ],
)
def test_the_summary_describes_the_optimizer(
  config, clipping, freeze, expected
):
  config.optimizer.clipping = clipping
  config.freeze = freeze
  model = build.make_model(config, 10)
  described = build.describe_groups(config, model, shapes(model))
  groups = {g.name: g for g in described}
  name = 'weights' if freeze == 'none' else 'frozen'
  assert groups[name].applies == expected


def test_the_optimizer_does_what_the_settings_say(config):
  """One step: clipped to 0.5, plus weight decay, Nesterov, learning rate."""
  config.optimizer.clipping = 0.5
  config.optimizer.clip_eps = 1e-3
  config.optimizer.weight_decay = 0.1
  model = build.make_model(config, 10)
  optimizer = build.make_optimizer(config, model, lambda step: 0.2)
  params = {'NFNet/~/conv': {'w': jnp.full((1, 1, 4, 1), 1.0)}}
  grads = {'NFNet/~/conv': {'w': jnp.full((1, 1, 4, 1), 10.0)}}
  updates, _ = optimizer.update(grads, optimizer.init(params), params)
  # Clipping: |w| = 2, so |grad| = 1 and each element is 0.5; + 0.1 * 1 = 0.6;
  # the first Nesterov step is 1.9 times that.
  np.testing.assert_allclose(
    updates['NFNet/~/conv']['w'], -0.2 * 1.9 * 0.6, rtol=1e-5
  )
