"""Settings: lengths, checks, differences between runs."""

import pytest

from nfnets import errors
from nfnets.experiment import config as config_lib
from nfnets.experiment import recipes

IMAGENET = 1_281_167


@pytest.mark.parametrize(
  'config, expected',
  [
    # arXiv 2102.06171: 360 epochs of 4096; arXiv 2101.08692: 360 of 1024.
    (recipes.imagenet_nfnet('nfnet_f1'), 112_602),
    (recipes.imagenet_nf_regnet('nf_regnet_b0'), 450_410),
    (recipes.imagenet_resnet('nf_resnet50'), 112_602),
    (recipes.fine_tuning('nfnet_f4'), 15_000),
  ],
)
def test_published_lengths(config, expected):
  batch_size = config.train.batch_size
  assert config_lib.steps(config.train, '', IMAGENET, batch_size) == expected


def test_steps_take_the_place_of_epochs():
  config = config_lib.base()
  config.optimizer.warmup_epochs = 2.5
  assert config_lib.steps(config.optimizer, 'warmup_', 1000, 100) == 25
  config.optimizer.warmup_steps = 7
  assert config_lib.steps(config.optimizer, 'warmup_', 1000, 100) == 7


@pytest.mark.parametrize(
  'name, layers, magnitude',
  [
    ('nfnet_f0', 4, 5),
    ('nfnet_f1', 4, 10),
    ('nfnet_f2+', 4, 10),
    ('nfnet_f3', 4, 15),
    ('nfnet_f7+', 4, 15),
  ],
)
def test_randaugment_follows_the_variant(name, layers, magnitude):
  augment = recipes.imagenet_nfnet(name).augment
  assert augment.randaugment_layers == layers
  assert augment.randaugment_magnitude == magnitude


def test_base_passes_its_own_checks():
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
  ],
)
def test_check_names_key_and_value(key, value):
  config = config_lib.base()
  section, name = key.split('.')
  config[section][name] = value
  with pytest.raises(errors.UserError) as caught:
    config_lib.check(config)
  assert f'config.{key} is ' in str(caught.value)
  assert repr(value).strip('()') in str(caught.value).replace('[', '').replace(
    ']', ''
  )


def test_differences_show_old_and_new_but_not_what_changes_no_number():
  old = config_lib.base()
  new = config_lib.base()
  new.optimizer.learning_rate = 0.2
  new.log.every_steps = 1
  new.data.num_workers = 2
  assert config_lib.differences(
    config_lib.flatten(old), config_lib.flatten(new)
  ) == ['optimizer.learning_rate: 0.1 -> 0.2']


def test_every_setting_stands_alone():
  flat = config_lib.flatten(config_lib.base())
  for key in flat:
    config = config_lib.base()
    *sections, name = key.split('.')
    section = config[sections[0]] if sections else config
    kind = section.get_type(name)
    section[name] = kind((1, 2)) if kind is tuple else kind(1)
    changed = config_lib.flatten(config)
    assert [k for k in flat if k != key and changed[k] != flat[k]] == []
