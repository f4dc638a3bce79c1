"""Numbers that are not finite, and devices that disagree."""

import shutil

import pytest

from tests.faults import runs

pytestmark = pytest.mark.slow


def test_a_loss_that_is_not_finite(tmp_path):
  end = runs.run(
    *runs.TRAIN,
    f'--workdir={tmp_path}',
    '--config.optimizer.learning_rate=1e9',
    '--config.optimizer.clipping=0',
    '--config.checkpoint.every_steps=1',
  )
  runs.assert_one_line(end, 'are not finite', 'last checkpoint: step')
  last = runs.checkpoints(tmp_path)[-1]
  assert f'last checkpoint: step {last})' in end.err
  assert runs.state(tmp_path, last)
  # The metrics up to the failed step are written.
  losses = runs.metrics(tmp_path, 'train/loss')['train/loss']
  assert max(losses) == last + 1 and losses[last] > 0


def test_skipped_steps(tmp_path):
  def run(name, limit):
    folder = f'--workdir={tmp_path / name}'
    limit = f'--config.train.skip_nonfinite={limit}'
    return runs.broken('nan-steps:5:8', *runs.OPTIONS, limit, folder)

  end = runs.succeed(run('whole', 4))
  assert [line.rpartition(': ')[2] for line in end.err.splitlines()] == [
    'skipped (1 so far)',
    'skipped (2 so far)',
    'skipped (4 so far)',
  ]
  skipped = runs.metrics(tmp_path / 'whole', 'train/skipped')['train/skipped']
  assert skipped == {2: 0, 4: 0, 6: 2, 8: 4, 10: 4, 12: 4}
  assert runs.checkpoints(tmp_path / 'whole') == [4, 12]
  shutil.copytree(tmp_path / 'whole', tmp_path / 'resumed')
  shutil.rmtree(tmp_path / 'resumed' / 'checkpoints' / '12')
  assert 'resuming from step 4' in runs.succeed(run('resumed', 4)).out
  runs.assert_same_run(tmp_path / 'resumed', tmp_path / 'whole')
  end = run('too many', 3)
  runs.assert_one_line(
    end, 'at step 8', 'nor were 3', 'last checkpoint: step 4'
  )
  assert runs.checkpoints(tmp_path / 'too many') == [4]


def test_devices_that_disagree(tmp_path):
  end = runs.broken(
    'drift:8', *runs.OPTIONS, f'--workdir={tmp_path}', devices=4
  )
  runs.assert_one_line(end, 'different states at step 8')
  assert runs.checkpoints(tmp_path) == [4]


@pytest.mark.parametrize('devices', [2, 4])
def test_resumed_with_other_devices_and_workers(whole, copy, devices):
  """The batches are the same; sums differ in their order only."""
  for step in (8, 12):
    shutil.rmtree(copy / 'checkpoints' / str(step))
  end = runs.run(
    *runs.TRAIN,
    f'--workdir={copy}',
    '--config.data.num_workers=2',
    devices=devices,
  )
  assert 'resuming from step 4' in runs.succeed(end).out
  losses = [runs.metrics(w, 'train/loss')['train/loss'] for w in (whole, copy)]
  assert losses[0] == pytest.approx(losses[1], rel=1e-3)
