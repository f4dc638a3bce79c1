"""Names, and settings that contradict each other."""

import pytest

from nfnets import errors
from nfnets.experiment import checks
from nfnets.experiment import config as config_lib


def error_of(**changes):
  config = config_lib.base()
  for name, value in changes.items():
    section, _, key = name.rpartition('__')
    (config[section] if section else config)[key] = value
  with pytest.raises(errors.UserError) as caught:
    checks.check(config)
  assert '\n' not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize(
  'changes, expected',
  [
    ({'train__ema_start': 1}, 'unknown setting train.ema_start: did you mean'),
    ({'train': 3}, 'train is a group of settings; set one of them, such as'),
    ({'train': {}}, 'train is a group of settings'),
    ({'log': {'every_steps': 5, 'x': 1}}, 'unknown setting log.x'),
    ({'log': {'steps': 5}}, 'unknown setting log.steps'),
    ({'extra': {}}, 'unknown setting extra: the settings are augment, check'),
    ({'learning_rate': 1}, 'did you mean optimizer.learning_rate?'),
  ],
)
def test_names_that_do_not_exist(changes, expected):
  assert expected in error_of(**changes)


def test_names_that_are_missing():
  config = config_lib.base()
  del config.train.sam_rho
  with pytest.raises(errors.UserError, match='setting train.sam_rho is miss'):
    checks.check(config)


def test_the_nearest_of_two_equally_similar_names_begins_alike():
  assert error_of(train__ema_start=1).endswith('mean train.ema_decay?')


@pytest.mark.parametrize(
  'changes, name, value',
  [
    ({'dataset': ''}, 'dataset', "''"),
    ({'dataset': 'folder:'}, 'dataset', "'folder:'"),
    ({'dataset': 'gs://bucket/x'}, 'dataset', 'gs://bucket/x'),
    ({'data__data_dir': 's3://b/x'}, 'data_dir', 's3://b/x'),
    ({'init_from': '$NO_SUCH/x'}, 'config.init_from', '$NO_SUCH/x'),
    ({'freeze': 'stage1'}, 'config.freeze', "'stage1'"),
    ({'freeze': True}, 'config.freeze', "'all'"),
    (
      {'train__class_weights': 'balanced', 'data__sampling': 'balanced'},
      'config.train.class_weights',
      'balanced',
    ),
    (
      {'data__held_out': 0.1, 'data__train_split': 'all'},
      'config.data.train_split',
      "'all'",
    ),
    ({'train__epochs': 0}, 'config.train.epochs', '0'),
    ({'train__epochs': 5}, 'config.optimizer.warmup_epochs', '5.0'),
    ({'train__epochs': 4.5}, 'config.train.epochs', '4.5'),
    (
      {'train__steps': 10, 'optimizer__warmup_steps': 10},
      'config.optimizer.warmup_steps',
      'is 10',
    ),
    (
      {'optimizer__final_learning_rate': 2.0},
      'config.optimizer.final_learning_rate',
      'is 2.0',
    ),
    (
      {'optimizer__learning_rate': 0.0, 'optimizer__final_learning_rate': 1e-3},
      'config.optimizer.final_learning_rate',
      'is 0.001',
    ),
    (
      {'optimizer__clipping': 0.01, 'optimizer__clip_norm': 2.0},
      'config.optimizer.clipping is 0.01',
      'config.optimizer.clip_norm is 2:',
    ),
  ],
)
def test_contradictions(changes, name, value):
  message = error_of(**changes)
  assert name in message and value in message


@pytest.mark.parametrize(
  'changes',
  [
    {'freeze': 'all', 'init_from': 'F0_haiku.npz'},
    {'freeze': True, 'init_from': 'F0_haiku.npz'},
    {'freeze': False},
    # The warm-up in epochs is not used, or cannot be compared yet.
    {'train__steps': 10, 'optimizer__warmup_steps': 2},
    {'train__steps': 10},
    {'train__epochs': 1.0, 'optimizer__warmup_steps': 2},
    {'train__steps': 1, 'train__epochs': 0.0, 'optimizer__warmup_epochs': 0.0},
    {'optimizer__final_learning_rate': 1.6},
  ],
)
def test_what_is_not_a_contradiction(changes):
  config = config_lib.base()
  for name, value in changes.items():
    section, _, key = name.rpartition('__')
    (config[section] if section else config)[key] = value
  checks.check(config)


def test_settings_get_their_own_type_and_are_locked():
  values = config_lib.flatten(config_lib.base())
  values |= {'train.epochs': 90, 'model.depth': [1, 2, 3, 4]}
  config = checks.from_flat(values)
  assert repr(config.train.epochs) == '90.0'
  assert config.model.depth == (1, 2, 3, 4)
  with pytest.raises(AttributeError):
    config.train.ema_start = 1
