import json

import numpy as np
import pytest

from nfnets import errors, models
from nfnets.weights import files, metadata
from tests.weights import tiny


def _contents(config, verified=True, **changes):
  made = metadata.make(config, ('cat', 'dog'), 'timm')
  tensors = {str(number): np.zeros(1) for number in range(sum(config.depth))}
  return files.Contents(tensors, {**made, **changes}, verified)


def _config(**options):
  return models.create_model(tiny.NAME, **{**tiny.OPTIONS, **options}).config


def test_round_trip():
  config = _config(activation='silu', stem='small')
  contents = _contents(config)
  assert metadata.is_ours(contents.metadata)
  header = metadata.parse(contents, 'FILE')
  assert header.name == tiny.NAME
  assert header.class_names == ('cat', 'dog')
  assert header.eval_preset == 'timm'
  assert models.create_model(header.name, **header.options).config == config


def test_stores_only_changed_options():
  made = metadata.make(models.create_model('nfnet_f1', depth=[1] * 4).config)
  assert json.loads(made['options']) == {'depth': [1, 1, 1, 1]}
  assert json.loads(made['config'])['family'] == 'NFNet'
  assert json.loads(made['class_names']) == []


def test_default_preset_is_that_of_the_authors():
  for name, preset in (('nfnet_f0', 'deepmind'), ('nfnet_l0', 'timm')):
    config = models.create_model(name).config
    assert metadata.make(config)['eval_preset'] == preset


def test_constants_of_the_forward_pass():
  made = metadata.make(models.create_model('nfnet_f0').config)
  constants = json.loads(made['constants'])
  assert constants['alpha'] == 0.2
  assert constants['epsilon'] == 1e-4
  assert constants['epsilon_rule'] == 'floor'
  assert constants['attention_gain'] == 2.0
  assert constants['gamma_in'] == 'activations'
  assert constants['gamma'] == pytest.approx(1.7015043497085571)
  # Each block adds alpha^2 to the variance; the first of a stage resets it to 1
  # beforehand. Beta is one over the standard deviation of the block's input.
  expected = [1.0, 1.04**-0.5, 1.04**-0.5, 1.08**-0.5]
  assert len(constants['beta']) == 12
  assert constants['beta'][:4] == pytest.approx(expected)

  made = metadata.make(models.create_model('nfnet_l0').config)
  constants = json.loads(made['constants'])
  assert constants['epsilon'] == 1e-5
  assert constants['epsilon_rule'] == 'additive'
  assert constants['gamma_in'] == 'weights'


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'format': 'nfnets 2'},
      "format 'nfnets 2', expected 'nfnets 1'",
    ),
    ({'options': '{'}, 'metadata cannot be used: Expecting'),
    ({'options': '[1]'}, 'its options are a list'),
    ({'options': '[' * 10**5}, 'nested deeper than 32'),
    ({'options': '{"width": "x"}'}, "width is 'x', expected a number"),
    ({'options': '{"width": 1e9}'}, r'width is 1000000000.0, expected'),
    ({'options': '{"width": 1e5}'}, 'a layer of .* channels is wider than'),
    ({'options': '{"width": NaN}'}, 'width is nan, expected a number'),
    ({'options': f'{{"width": {"9" * 90}}}'}, 'width is 999.* expected'),
    ({'options': '{"width": [[1]]}'}, r'width is \(\[1\],\), expected'),
    ({'options': '{"depth": [1, 1, 1, 900]}'}, '900.* for 4 arrays'),
    ({'options': '{"depth": [1, 1, 1, 1e9]}'}, 'expected several numbers'),
    ({'options': '{"alpha": null}'}, 'alpha is None, expected a number'),
    ({'options': '{"remat": 1}'}, 'remat is 1, expected True or False'),
    ({'options': '{"padding": "x"}'}, 'expected one of same, symmetric'),
    ({'options': '{"std": [1, 1]}'}, 'expected 3 numbers'),
    ({'options': '{"std": [1, 1, 0]}'}, 'expected 1e-06 to'),
    ({'options': '{"mod": 1}'}, "has no option 'mod'"),
    ({'options': '{"name": "nfnet_f1"}'}, 'contain another name'),
    ({'model': 'nfnet_f9'}, "no model is named 'nfnet_f9'.*a newer version"),
    ({'class_names': '7'}, 'class names are not a list of strings'),
    ({'class_names': '"abc"'}, 'class names are not a list of strings'),
    ({'class_names': '[["a"]]'}, 'class names are not a list of strings'),
  ],
)
def test_refuses_other_metadata(changes, message):
  contents = _contents(_config(), **changes)
  with pytest.raises(errors.UserError, match=message):
    metadata.parse(contents, 'FILE')


@pytest.mark.parametrize('key', ['model', 'options', 'eval_preset'])
def test_names_what_is_missing(key):
  contents = _contents(_config())
  del contents.metadata[key]
  with pytest.raises(errors.UserError, match=f"used: '{key}' is missing"):
    metadata.parse(contents, 'FILE')


def test_refuses_metadata_without_a_digest():
  with pytest.raises(errors.UserError, match='SHA-256 is missing'):
    metadata.parse(_contents(_config(), verified=False), 'FILE')


def test_other_metadata_is_not_ours():
  assert not metadata.is_ours({'format': 'pt'})
  assert not metadata.is_ours({})


def test_join_and_split():
  params, state = {'net/conv/w': np.ones(2)}, {'net/norm/mean': np.zeros(1)}
  joined = metadata.join(params, state)
  assert joined.keys() == {'params/net/conv/w', 'state/net/norm/mean'}
  assert metadata.split(joined) == (params, state)
  # An unknown prefix stays in the name, so that the model reports it.
  assert metadata.split({'other/w': np.ones(1)})[0].keys() == {'other/w'}
