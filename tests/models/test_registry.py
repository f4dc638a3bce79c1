import pytest

from nfnets import errors, models


def test_names_are_unique_and_in_the_configs():
  names = models.list_models()
  assert len(set(names)) == len(names)
  for name in names:
    assert models.create_model(name).config.name == name


@pytest.mark.parametrize(
  ('name', 'overrides', 'message'),
  [
    ('nfnet_f8', {}, "'nfnet_f8', did you mean 'nfnet_f"),
    ('nfnet_f0', {'withd': 0.5}, "'withd', did you mean 'width'"),
    ('nfnet_f0', {'family': 'mine'}, "no option 'family'"),
    ('nfnet_f0', {'activation': 'swish'}, "'swish'"),
    ('nfnet_f0', {'depth': (1, 2, 6)}, r'\(1, 2, 6\), expected 4 stages'),
    ('nfnet_f0', {'depth': (1, 2, 0, 3)}, 'at least 1 block'),
    ('nfnet_f0', {'depth': (1, 2, 1.5, 3)}, '1.5'),
    ('nfnet_f0', {'drop_rate': 1.0}, 'drop_rate is 1.0'),
    ('nfnet_f0', {'stochdepth_rate': -0.1}, 'stochdepth_rate is -0.1'),
    ('nfnet_f0', {'width': 0}, 'width is 0'),
    ('nfnet_f0', {'num_classes': -1}, 'num_classes is -1'),
    ('nfnet_f0', {'width': 0.25}, '32 channels.*group of 128'),
  ],
)
def test_what_cannot_be_is_refused_at_once(name, overrides, message):
  with pytest.raises(errors.UserError, match=message):
    models.create_model(name, **overrides)


def test_overrides_reach_the_config():
  config = models.create_model(
    'nfnet_f1', num_classes=7, depth=[1, 1, 1, 1], alpha=0.3
  ).config
  assert (config.num_classes, config.depth) == (7, (1, 1, 1, 1))
  assert (config.alpha, config.drop_rate) == (0.3, 0.3)
