"""Runs that skip steps with a loss or gradient that is not finite."""

import json
import os
import signal

import pytest

from nfnets.training import loop
from tests.training import tiny, tiny_run

# Batches with a white image: three in a row.
WHITE = 2, 4, 5, 6


class Batches(tiny_run.Batches):
  def iterate(self, start=0):
    for number, batch in enumerate(super().iterate(start), start):
      if number in WHITE:
        batch['image'][3] = 255
      yield batch


def stop_at_six(batch):
  if batch == 6:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope='module')
def program():
  model = tiny.poisoned_by_white(tiny.make_model(drop_rate=0.3))
  return tiny_run.Program(model=model, skips=True)


def values(workdir, name):
  """Returns {step: value} of a metric."""
  rows = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
  return {row['step']: row[name] for row in rows if name in row}


def steps_in(workdir):
  return sorted(int(p.name) for p in (workdir / 'checkpoints').iterdir())


def test_steps_that_are_not_finite_are_skipped_and_counted(
  program, tmp_path, caplog
):
  whole = program.run(tmp_path / 'whole', batches=Batches(), skip_nonfinite=3)
  assert whole.step == int(whole.state.step) == 12
  assert tuple(map(int, whole.state.skips)) == (4, 0)
  skipped = values(tmp_path / 'whole', 'train/skipped')
  assert skipped == {2: 0, 4: 1, 6: 3, 8: 4, 10: 4, 12: 4}
  losses = values(tmp_path / 'whole', 'train/loss')
  assert [step for step, loss in losses.items() if loss is None] == [6]
  assert [record.getMessage() for record in caplog.records] == [
    f'loss nan, gradient norm nan at step {step} are not finite: skipped'
    f' ({count} so far)'
    for step, count in ((3, 1), (5, 2), (7, 4))
  ]
  # Stopped within the row.
  folder = tmp_path / 'stopped'
  batches = Batches(hook=stop_at_six)
  stopped = program.run(folder, batches=batches, skip_nonfinite=3)
  assert stopped.exit_status == 143
  assert int(stopped.state.skips.in_a_row) in (1, 2)
  end = program.run(folder, batches=Batches(), skip_nonfinite=3)
  tiny.assert_trees_equal(end.state, whole.state)
  assert end.metrics == whole.metrics


def test_too_many_steps_in_a_row_end_the_run(program, tmp_path):
  # Stopped within the row, which is counted from before the interruption.
  batches = Batches(hook=stop_at_six)
  stopped = program.run(tmp_path, batches=batches, skip_nonfinite=2)
  assert stopped.exit_status == 143
  assert int(stopped.state.skips.in_a_row) in (1, 2)
  # Saved on exit only; no checkpoint follows, since no step is applied.
  last = steps_in(tmp_path)[-1]
  assert last == stopped.step
  for _ in range(2):
    with pytest.raises(loop.DivergedError) as caught:
      program.run(tmp_path, batches=Batches(), every=1, skip_nonfinite=2)
    assert str(caught.value).startswith(
      'loss nan, gradient norm nan at step 7 are not finite: this step was not'
      f' applied, nor were 2 before it (last checkpoint: step {last}). '
    )
    assert steps_in(tmp_path)[-1] == last
  # The step that ended the run is reported too.
  assert max(values(tmp_path, 'train/skipped')) == 7


def test_the_checkpoints_before_a_row_are_kept(program, tmp_path):
  with pytest.raises(loop.DivergedError):
    program.run(tmp_path, batches=Batches(), every=1, skip_nonfinite=2)
  # The last two; the third step was skipped, and so were the fifth and later.
  assert {2, 4} <= set(steps_in(tmp_path)) <= {1, 2, 4}
