"""Settings: lengths, names, differences between runs."""

import pytest

from nfnets.experiment import build
from nfnets.experiment import config as config_lib


def test_steps_override_epochs():
  config = config_lib.base()
  config.optimizer.warmup_epochs = 2.5
  assert config_lib.steps(config.optimizer, 'warmup_', 1000, 100) == 25
  config.optimizer.warmup_steps = 7
  assert config_lib.steps(config.optimizer, 'warmup_', 1000, 100) == 7


@pytest.mark.parametrize('unit, peak', [(256, 1.6), (4096, 0.1), (0, 0.1)])
def test_the_peak_learning_rate_grows_with_the_batch(unit, peak):
  config = config_lib.base()
  config.optimizer.learning_rate_batch = unit
  assert config_lib.peak_learning_rate(config) == pytest.approx(peak)


def test_nested_is_the_inverse_of_flatten():
  flat = config_lib.flatten(config_lib.base())
  flat['train.steps'], flat['model.depth'] = 7, [1, 2]
  config = config_lib.nested(flat)
  assert config.train.steps == 7
  assert config_lib.flatten(config) == flat


def test_an_empty_group_is_not_lost():
  config = config_lib.base()
  config.augmentation = {}
  assert len(config_lib.flatten(config)['augmentation']) == 0


def test_differences_leave_out_what_does_not_affect_training():
  old = config_lib.base()
  new = config_lib.base()
  new.optimizer.learning_rate = 0.2
  new.log.every_steps = 1
  new.data.num_workers = 2
  new.train.early_stopping_patience = 2
  new.train.early_stopping_metric = 'eval/loss'
  assert config_lib.differences(
    config_lib.flatten(old), config_lib.flatten(new)
  ) == ['optimizer.learning_rate: 0.1 -> 0.2']


@pytest.mark.parametrize(
  'new, expected',
  [
    ('folder:/moved', []),
    ('digits', ["dataset: 'folder:/pictures' -> 'digits'"]),
  ],
)
def test_a_folder_may_move_but_not_become_another_kind(new, expected):
  settings = config_lib.flatten(config_lib.base())
  old = settings | {'dataset': 'folder:/pictures'}
  assert config_lib.differences(old, settings | {'dataset': new}) == expected


def test_a_setting_that_an_earlier_version_lacked_counts_as_the_default():
  new = config_lib.flatten(config_lib.base())
  old = {key: value for key, value in new.items() if key != 'data.max_pixels'}
  assert config_lib.differences(old, new) == []
  new['data.max_pixels'] = 1000
  assert config_lib.differences(old, new) == [
    'data.max_pixels: 100000000 -> 1000'
  ]


def test_every_model_setting_reaches_the_model():
  assert set(config_lib.base().model) == {
    'name',
    *build.ModelOptions._fields,
  }
