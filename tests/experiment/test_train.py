"""What a run checks before training and prints at its ends.

Whole runs are in test_main.py.
"""

import types

import jax
import numpy as np
import pytest

from nfnets import errors
from nfnets.experiment import ahead, evaluate, inputs, steps, train
from nfnets.training import checkpoint, loop
from tests.experiment import tiny


@pytest.fixture
def config():
  return tiny.make_config(32)


@pytest.mark.parametrize(
  'run', [train.train, ahead.report, lambda *x: evaluate.evaluate(*x, None)]
)
def test_settings_of_a_caller_are_checked(config, tmp_path, run):
  config.train.ema_start = 1
  with pytest.raises(errors.UserError, match='unknown setting train.ema_start'):
    run(config, tmp_path)
  assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
  'classes, expected',
  [(('a', 'c'), 'differ in b, c'), (('b', 'a'), 'differ in their order')],
)
def test_both_splits_have_the_same_classes(
  config, monkeypatch, classes, expected
):
  names = {'train': ('a', 'b'), 'eval': classes}
  monkeypatch.setattr(
    inputs,
    'load_source',
    lambda config, use: types.SimpleNamespace(
      split=use, class_names=names[use], num_classes=2
    ),
  )
  with pytest.raises(errors.UserError, match=expected):
    train._load_sources(config)


def test_the_start_is_random_or_the_latest_checkpoint(config, tmp_path):
  config.train.ema_decay = 0.9
  run = steps.make_steps(config, 10, lambda step: 0.1)
  saver = checkpoint.Checkpointer(tmp_path)
  create, step, metrics = train._start_state(run, saver)
  assert (step, metrics) == (0, {})
  state = create()
  assert state.ema_params.keys() == state.params.keys()
  state = jax.device_get(state)
  later = state._replace(
    params=jax.tree.map(lambda x: x + 1, state.params), step=np.int32(5)
  )
  saver.save(5, later, {'eval/top1': 0.5})
  saver.close()
  saver = checkpoint.Checkpointer(tmp_path)
  resumed, step, metrics = train._start_state(run, saver)
  assert (step, metrics) == (5, {'eval/top1': 0.5})
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed()), later)


@pytest.mark.parametrize(
  'status, first',
  [
    (143, 'stopped at step 9: rerun the command to resume'),
    (0, 'held-out accuracy: 75.00%'),
  ],
)
def test_the_ending_contains_accuracy_and_paths(tmp_path, status, first):
  outcome = loop.Outcome(None, 9, {'eval/top1': 0.75}, status)
  lines = train._ending(outcome, tmp_path).splitlines()
  assert lines == [
    first,
    f'checkpoint:  {tmp_path}/checkpoints/9',
    f'metrics:     {tmp_path}/metrics.jsonl',
    f'TensorBoard: {tmp_path}/tensorboard',
  ]
