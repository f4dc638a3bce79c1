"""Settings: lengths, checks, differences between runs."""

import pytest

from nfnets import errors
from nfnets.experiment import build
from nfnets.experiment import config as config_lib


def test_steps_override_epochs():
  config = config_lib.base()
  config.optimizer.warmup_epochs = 2.5
  assert config_lib.steps(config.optimizer, 'warmup_', 1000, 100) == 25
  config.optimizer.warmup_steps = 7
  assert config_lib.steps(config.optimizer, 'warmup_', 1000, 100) == 7


def test_base_passes_the_checks():
  config_lib.check(config_lib.base())


@pytest.mark.parametrize(
  'key, value',
  [
    ('train.batch_size', 0),
    ('train.dtype', 'float16'),
    ('train.label_smoothing', 1.0),
    ('optimizer.momentum', -0.1),
    ('data.eval_preset', 'torch'),
    ('data.area_range', (0.5, 0.1)),
    ('train.sam_share', 0.0),
    ('checkpoint.keep', 0),
    ('data.max_pixels', 0),
    ('data.area_range', (0.5, 0.6, 0.7)),
    ('data.area_range', ('a', 'b')),
    ('data.aspect_range', (0.0, 1.0)),
    ('train.epochs', float('nan')),
    ('train.epochs', float('inf')),
    ('train.epochs', 1e308),
    ('train.steps', 10**30),
  ],
)
def test_an_error_contains_key_and_value(key, value):
  config = config_lib.base()
  section, name = key.split('.')
  config[section][name] = value
  with pytest.raises(errors.UserError) as caught:
    config_lib.check(config)
  assert f'config.{key} is ' in str(caught.value)
  assert repr(value).strip('()') in str(caught.value).replace('[', '').replace(
    ']', ''
  )


def test_differences_leave_out_what_does_not_affect_training():
  old = config_lib.base()
  new = config_lib.base()
  new.optimizer.learning_rate = 0.2
  new.log.every_steps = 1
  new.data.num_workers = 2
  assert config_lib.differences(
    config_lib.flatten(old), config_lib.flatten(new)
  ) == ['optimizer.learning_rate: 0.1 -> 0.2']


def test_a_setting_that_an_earlier_version_lacked_counts_as_the_default():
  new = config_lib.flatten(config_lib.base())
  old = {key: value for key, value in new.items() if key != 'data.max_pixels'}
  assert config_lib.differences(old, new) == []
  new['data.max_pixels'] = 1000
  assert config_lib.differences(old, new) == [
    'data.max_pixels: 100000000 -> 1000'
  ]


def test_changing_one_setting_changes_no_other():
  flat = config_lib.flatten(config_lib.base())
  for key in flat:
    config = config_lib.base()
    *sections, name = key.split('.')
    section = config[sections[0]] if sections else config
    kind = section.get_type(name)
    section[name] = kind((1, 2)) if kind is tuple else kind(1)
    changed = config_lib.flatten(config)
    assert [k for k in flat if k != key and changed[k] != flat[k]] == []


def test_every_model_setting_reaches_the_model():
  assert set(config_lib.base().model) == {
    'name',
    *build.ModelOptions._fields,
  }
