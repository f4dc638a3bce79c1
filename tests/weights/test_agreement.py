import pytest

from nfnets import errors, models
from nfnets.weights import agreement, sources
from tests.weights import tiny


def _source(**options):
  return sources.Source('FILE', 'nfnets', {}, {}, tiny.NAME, options)


def test_options_that_change_the_network_must_agree():
  source = _source(activation='silu')
  agreement.check_options(source, tiny.NAME, {'activation': 'silu'})
  with pytest.raises(
    errors.UserError, match="FILE: .*activation='silu', but activation='gelu'"
  ):
    agreement.check_options(source, tiny.NAME, {'activation': 'gelu'})


def test_options_irrelevant_to_evaluation_may_differ():
  source = _source(drop_rate=0.1, num_classes=5, remat=True)
  agreement.check_options(source, tiny.NAME, {'drop_rate': 0.5})


def test_config_error_lists_the_flags_that_match_the_file():
  config = models.create_model(tiny.NAME, num_classes=3).config
  agreement.check_config(_source(test_size=32), config)
  source = _source(depth=(1, 1, 1, 1), alpha=0.3)
  with pytest.raises(errors.UserError) as raised:
    agreement.check_config(source, config)
  message = str(raised.value)
  assert 'saved with depth=(1, 1, 1, 1), alpha=0.3' in message
  assert 'the model has depth=(1, 2, 6, 3), alpha=0.2' in message
  assert '--config.model.depth=1,1,1,1 --config.model.alpha=0.3' in message


def test_config_agrees_with_a_file_without_options():
  agreement.check_config(_source(), models.create_model('nfnet_f1').config)
