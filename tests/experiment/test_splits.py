"""The splits of a run: sizes and classes."""

import types

import pytest

from nfnets import errors
from nfnets.experiment import inputs, splits
from tests.experiment import tiny


@pytest.fixture
def config():
  return tiny.make_config(32)


@pytest.mark.parametrize('held_out', [0.0, 0.1])
@pytest.mark.parametrize(
  'classes, expected',
  [(('a', 'c'), 'differ in b, c'), (('b', 'a'), 'differ in their order')],
)
def test_all_splits_have_the_same_classes(
  config, monkeypatch, held_out, classes, expected
):
  last = 'test' if held_out else 'valid'
  config.data.held_out = held_out
  monkeypatch.setattr(
    inputs,
    'load_source',
    lambda config, use: types.SimpleNamespace(
      split=use,
      class_names=classes if use == last else ('a', 'b'),
      num_classes=2,
    ),
  )
  with pytest.raises(errors.UserError, match=f'{last} has 2; they {expected}'):
    splits.load(config)


def test_without_a_held_out_part_the_test_split_is_evaluated(config):
  data = splits.load(config)
  assert (len(data.train), len(data.held_out), data.test) == (1437, 360, None)
  assert data.held_out.split == 'test'


@pytest.mark.parametrize('eval_split', ['valid', 'test'])
def test_a_part_of_train_is_held_out(config, eval_split):
  config.data.held_out = 0.1
  config.data.eval_split = eval_split
  data = splits.load(config)
  assert [len(x) for x in data] == [1293, 144, 360]
  assert [x.split for x in data] == ['train', 'valid', 'test']
  # --mode=eval measures the split in the settings.
  expected = 144 if eval_split == 'valid' else 360
  assert len(inputs.load_source(config, 'eval')) == expected
