"""The programs of a run, compiled before it starts."""

import contextlib

import jax
import numpy as np
import pytest

from nfnets.data import growth
from nfnets.experiment import inputs, steps
from nfnets.training import devices
from tests.experiment import tiny


@pytest.fixture(scope='module')
def run():
  config = tiny.make_config(16)
  config.data.eval_size = 32
  config.train.batch_size = 8
  config.train.ema_decay = 0.9
  config.augment.mixup_alpha = 0.2
  return steps.make_steps(config, 10, lambda step: 0.1)


@pytest.fixture
def compilations():
  """Counts the programs that XLA compiles."""
  events = []

  def listen(event, _, **kwargs):
    if event == '/jax/core/compile/backend_compile_duration':
      events.append(event)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield events
  jax.monitoring.unregister_event_duration_listener(listen)


def test_a_program_is_compiled_once(run, compilations):
  """The call finds what `lower(...).compile()` has compiled."""
  state = devices.replicate(steps.create_state(run))
  rows = 8 * run.images_per_example
  batch = devices.shard_batch(
    {
      'image': np.zeros((rows, 16, 16, 3), np.uint8),
      'label': np.zeros(rows, np.int32),
      'mask': np.ones(rows, bool),
    }
  )
  compilations.clear()
  steps.lower_train(run).compile()
  assert len(compilations) == 1
  state, _ = run.train(state, batch)
  run.train(state, batch)
  assert len(compilations) == 1


class Messages:
  """Stands for a reporter."""

  def __init__(self):
    self.texts = []
    self.pauses = 0

  def message(self, text):
    self.texts.append(text)

  @contextlib.contextmanager
  def paused(self):
    self.pauses += 1
    yield


def test_changes_of_the_image_size_are_printed():
  reporter = Messages()
  stages = growth.stages(16, 32, 8)
  step = steps.announcing_sizes(
    lambda state, batch: (state + 1, batch), stages, reporter
  )
  state = 0
  for batch in range(8):
    size = growth.size_of(stages, batch)
    state, out = step(state, {'image': np.zeros((4, 2, size, size, 3))})
    assert out['image'].shape[-2] == size
  assert state == 8
  assert reporter.texts == [
    'images of 16 px: compiling the train step',
    'images of 24 px: compiling the train step',
    'images of 32 px',
  ]
  assert reporter.pauses == 3


def test_a_single_size_leaves_the_train_step_as_it_is(run):
  stages = growth.constant(16)
  assert steps.announcing_sizes(run.train, stages, None) is run.train


def test_shapes_are_those_of_the_state(run):
  shapes = jax.tree.map(lambda x: (x.shape, x.dtype), steps.state_shapes(run))
  state = steps.create_state(run)
  assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), state)


def test_evaluation_has_the_batch_of_the_pipeline(run):
  lowered = steps.lower_evaluation(
    run.config, run.model, run.evaluation, examples=360
  )
  _, _, batch = lowered.args_info[0]
  size = inputs.eval_batch_size(run.config, 360, 4)
  assert batch['image'].shape == (4, size // 4, 32, 32, 3)
