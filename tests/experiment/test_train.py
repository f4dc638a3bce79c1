"""What a run checks before training and prints at its ends.

Whole runs are in test_main.py.
"""

import types

import jax
import numpy as np
import pytest

from nfnets import errors
from nfnets.experiment import ahead, build, evaluate, splits, steps, train
from nfnets.training import checkpoint
from tests.experiment import tiny


@pytest.fixture
def config():
  return tiny.make_config(32)


@pytest.mark.parametrize('run', [train.train, ahead.report, evaluate.evaluate])
def test_settings_of_a_caller_are_checked(config, tmp_path, run):
  config.train.ema_start = 1
  with pytest.raises(errors.UserError, match='unknown setting train.ema_start'):
    run(config, tmp_path)
  assert not any(tmp_path.iterdir())


def test_the_start_is_random_or_the_latest_checkpoint(config, tmp_path):
  config.train.ema_decay = 0.9
  run = steps.make_steps(config, 10, lambda step: 0.1)
  saver = checkpoint.Checkpointer(tmp_path, config={'train.steps': 7})
  start = train._find_start(run, saver)
  assert (start.step, start.metrics, start.config) == (0, {}, None)
  state = start.create()
  assert state.ema_params.keys() == state.params.keys()
  state = jax.device_get(state)
  later = state._replace(
    params=jax.tree.map(lambda x: x + 1, state.params), step=np.int32(5)
  )
  saver.save(5, later, {'eval/top1': 0.5})
  saver.close()
  saver = checkpoint.Checkpointer(tmp_path)
  start = train._find_start(run, saver)
  assert (start.step, start.metrics) == (5, {'eval/top1': 0.5})
  assert start.config == {'train.steps': 7}
  jax.tree.map(
    np.testing.assert_array_equal, jax.device_get(start.create()), later
  )


@pytest.mark.parametrize(
  'saved, done', [(None, True), (9, True), (10, True), (5, False)]
)
def test_a_run_that_stopped_early_continues_when_it_is_longer(
  config, saved, done
):
  config.train.early_stopping_patience = 1
  plan = train._Plan(
    types.SimpleNamespace(config=config),
    splits.Splits(range(96), range(10)),
    build.Lengths(9, 0, 1, 1),
    (),
  )
  settings = saved and {'train.steps': saved, 'train.batch_size': 96}
  start = train._Start(lambda: None, 6, {}, settings)
  lines = [
    {'step': step, 'eval/top1': 0.5, 'eval/loss': 1.0} for step in (3, 6)
  ]
  assert train._stopping(plan, start, lines).done is done
