"""Runs that do not fit in memory end in one line."""

import jax
import pytest

from nfnets import errors
from nfnets.experiment import fitting, steps
from nfnets.runtime import memory
from nfnets.training import devices
from tests.experiment import tiny

GIB = 2**30


@pytest.fixture
def run():
  config = tiny.make_config(16)
  config.train.batch_size = 8
  return steps.make_steps(config, 10, lambda step: 0.1)


def _plus(size, beside):
  return None if size is None else size + beside


def fix(monkeypatch, training, evaluation, free):
  """Replaces XLA's counts and the device's memory."""
  sizes = iter((training, evaluation))
  monkeypatch.setattr(
    memory, 'program_size', lambda _, beside=0: _plus(next(sizes), beside)
  )
  monkeypatch.setattr(memory, 'free', lambda: free)
  for name in ('lower_train', 'lower_evaluation'):
    lowered = jax.jit(lambda x: x).lower(1.0)
    monkeypatch.setattr(steps, name, lambda *_, lowered=lowered: lowered)


def test_evaluation_needs_the_train_state_too(run, monkeypatch):
  fix(monkeypatch, 3 * GIB, GIB, memory.Free(4 * GIB, 'on this machine'))
  state = sum(x.nbytes for x in jax.tree.leaves(steps.create_state(run)))
  assert state < 2**20
  assert fitting.check_training(run, 360) == (
    '3.00 GiB for a train step, 1.00 GiB for an evaluation step on each device;'
    ' 4.00 GiB free on this machine'
  )
  fix(monkeypatch, 1, 4 * GIB, memory.Free(4 * GIB, 'on this machine'))
  with pytest.raises(errors.UserError, match='an evaluation step needs 4.00'):
    fitting.check_training(run, 360)


def test_a_train_step_that_does_not_fit(run, monkeypatch):
  fix(monkeypatch, 5 * GIB, GIB, memory.Free(4 * GIB, 'on each A100'))
  with pytest.raises(errors.UserError) as caught:
    fitting.check_training(run, 360)
  assert str(caught.value) == (
    'a train step needs 5.00 GiB on each device, but only 4.00 GiB is free on'
    ' each A100: reduce config.train.batch_size=8 or config.data.image_size,'
    ' increase config.train.accumulation=1, or set config.model.remat=true'
  )
  # Another process may have the smallest device.
  fix(monkeypatch, 3 * GIB, GIB, memory.Free(4 * GIB, 'on each A100'))
  monkeypatch.setattr(devices, 'smallest', lambda size: size // 2)
  with pytest.raises(errors.UserError, match='only 2.00 GiB is free'):
    fitting.check_training(run, 360)


def test_one_image_per_device_is_the_smallest_batch(run):
  assert 'batch_size below 8' in fitting.less_evaluation(run.config, 360, 4)
  run.config.eval.batch_size = 4
  remedy = fitting.less_evaluation(run.config, 360, 4)
  assert remedy == 'reduce config.data.eval_size'


def test_unknown_memory_is_no_error(run, monkeypatch):
  fix(monkeypatch, None, None, None)
  assert 'unknown' in fitting.check_training(run, 360)


def test_an_evaluation_that_does_not_fit(run, monkeypatch):
  free = memory.Free(10_000, 'under ulimit -v')
  monkeypatch.setattr(memory, 'free', lambda: free)
  with pytest.raises(errors.UserError) as caught:
    fitting.check_evaluation(run.config, run.model, run.evaluation, 360)
  assert 'set config.eval.batch_size below 8' in str(caught.value)
  assert '10 KiB is free under ulimit -v' in str(caught.value)


@pytest.mark.parametrize(
  'error, expected',
  [
    (
      jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: 9 GiB\nmore'),
      'out of memory (RESOURCE_EXHAUSTED: 9 GiB); step 3 is saved: do less',
    ),
    (MemoryError(), 'out of memory (MemoryError); step 3 is saved: do less'),
  ],
)
def test_running_out_of_memory_is_explained(error, expected):
  with pytest.raises(errors.UserError) as caught:
    with fitting.explained('do less', lambda: 'step 3 is saved'):
      raise error
  assert str(caught.value) == expected


def test_other_errors_pass():
  with pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'):
    with fitting.explained('do less', lambda: ''):
      raise jax.errors.JaxRuntimeError('INTERNAL: broken')


@pytest.mark.parametrize(
  'size, text',
  [
    (12, '12 B'),
    (2048, '2 KiB'),
    (5 * 2**20, '5 MiB'),
    (3 * 2**29, '1.50 GiB'),
    (None, 'an unknown amount'),
  ],
)
def test_sizes(size, text):
  assert fitting.size_text(size) == text
