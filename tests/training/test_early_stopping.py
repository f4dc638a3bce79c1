"""When a run ends early, from hand-written accuracies; resumed exactly."""

import json
import math
import signal

import jax
import pytest

from nfnets.training import early_stopping
from tests.training import tiny, tiny_run


@pytest.fixture(scope='module')
def program():
  return tiny_run.Program()


def steps_until_done(values, patience, metric='eval/top1'):
  """Returns the steps at which evaluations 1, 2, ... leave it done."""
  stopping = early_stopping.EarlyStopping(metric, patience)
  done = []
  for step, value in enumerate(values, 1):
    stopping.record(step, {metric: value})
    done += [step] if stopping.done else []
  return done


@pytest.mark.parametrize(
  'values, patience, expected',
  [
    ([0.5, 0.4, 0.4, 0.4], 3, [4]),
    ([0.5, 0.4, 0.4, 0.6, 0.5, 0.6], 3, []),
    # An equal value is no improvement.
    ([0.5, 0.5], 1, [2]),
    ([0.1, 0.2, 0.3], 1, []),
    ([0.5, 0.4, 0.4, 0.4], 0, []),
    # NaN neither improves nor is improved on.
    ([0.5, math.nan, 0.6, math.nan, math.nan], 2, [5]),
    ([math.nan, math.nan], 2, [2]),
  ],
)
def test_patience_counts_evaluations_without_improvement(
  values, patience, expected
):
  assert steps_until_done(values, patience) == expected
  losses = [-value for value in values]
  assert steps_until_done(losses, patience, 'eval/loss') == expected


def test_the_average_counts_if_there_is_one():
  stopping = early_stopping.EarlyStopping('eval/top1', 1)
  last = {'eval/top1': 0.9, 'eval/ema_top1': 0.25}
  stopping.record(1, {'eval/top1': 0.1, 'eval/ema_top1': 0.5})
  stopping.record(2, last)
  assert stopping.done
  text = stopping.describe(last)
  assert text.startswith('eval/ema_top1 has not improved in 1 evaluations')
  assert '(best 50.00% at step 1)' in text


def test_the_loss_is_described_as_such():
  stopping = early_stopping.EarlyStopping('eval/loss', 1)
  for step, loss in ((10, 0.25), (20, 0.5)):
    stopping.record(step, {'eval/loss': loss})
  assert '(best 0.2500 at step 10)' in stopping.describe({'eval/loss': 0.5})


def lines_of(*values):
  """Returns lines of evaluations at steps 10, 20, ..."""
  return [
    {'step': 10 * i, 'eval/top1': value, 'eval/loss': 1.0}
    for i, value in enumerate(values, 1)
  ]


@pytest.mark.parametrize(
  'values, start, longer, done',
  [
    # Evaluated at steps 10 to 40; the best is at step 10.
    ((0.5, 0.4, 0.4, 0.4), 40, False, True),
    ((0.5, 0.4, 0.4), 30, False, False),
    ((0.5, 0.4, 0.4), 35, False, False),
    # Made longer, or continued some time before.
    ((0.5, 0.4, 0.4, 0.4), 40, True, False),
    ((0.5, 0.4, 0.4, 0.4), 45, False, False),
    ((0.5, 0.4, 0.4, 0.4, 0.4, 0.4), 60, False, False),
    ((0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4), 70, False, True),
    ((), 0, False, False),
  ],
)
def test_the_count_is_that_of_the_lines_so_far(values, start, longer, done):
  stopping = early_stopping.EarlyStopping('eval/top1', 3)
  test = {'step': start, 'test/top1': 0.9}
  stopping.replay([*lines_of(*values), test], start, longer)
  assert stopping.done is done


@pytest.mark.parametrize('patience', [4, 0])
def test_more_patience_continues_a_stopped_run(patience):
  stopping = early_stopping.EarlyStopping('eval/top1', patience)
  stopping.replay(lines_of(0.5, 0.4, 0.4, 0.4), 40, False)
  assert not stopping.done
  stopping.record(50, {'eval/top1': 0.4})
  assert stopping.done is (patience == 4)


def test_only_evaluations_up_to_the_start_are_read(tmp_path):
  written = [
    {'step': 1, 'train/loss': 3.0},
    *lines_of(0.5, None, 0.25),
    {'step': 30, 'test/top1': 0.5},
  ]
  text = ''.join(f'{json.dumps(line)}\n' for line in written)
  (tmp_path / 'metrics.jsonl').write_text(text + 'damaged\n')
  assert early_stopping.read_history(tmp_path, 0) == []
  one, two = early_stopping.read_history(tmp_path, 29)
  assert one == written[1]
  assert two['step'] == 20 and math.isnan(two['eval/top1'])
  assert early_stopping.read_history(tmp_path, 30)[2:] == written[3:]
  assert early_stopping.read_history(tmp_path / 'none', 30) == []


# At steps 2, 4, ..., 12: nothing after step 4 is better.
SCORES = dict(zip(range(2, 13, 2), (0.1, 0.5, 0.4, 0.5, 0.3, 0.9), strict=True))


def scripted(state, should_stop):
  del should_stop
  score = SCORES[int(jax.device_get(state.step))]
  return {'eval/top1': score, 'eval/loss': 1.0, 'eval/count': 1}


def run(program, workdir, **options):
  return program.run(
    workdir, evaluate=scripted, eval_every=2, patience=3, **options
  )


def test_a_run_ends_early_like_a_finished_one(program, tmp_path):
  outcome = run(program, tmp_path, every=4)
  assert (outcome.step, outcome.exit_status) == (10, 0)
  assert outcome.metrics['eval/top1'] == 0.3
  # The last two and the best, at which there was a checkpoint.
  names = sorted(int(p.name) for p in (tmp_path / 'checkpoints').iterdir())
  assert names == [8, 10]
  before = (tmp_path / 'metrics.jsonl').read_text()
  # Started again, it neither trains nor evaluates.
  batches = tiny_run.Batches(hook=lambda k: pytest.fail(f'requested batch {k}'))
  again = run(program, tmp_path, batches=batches)
  assert again.metrics == outcome.metrics
  tiny.assert_trees_equal(again.state, outcome.state)
  assert (tmp_path / 'metrics.jsonl').read_text() == before


@pytest.mark.parametrize(
  'at', [7, *(pytest.param(at, marks=pytest.mark.slow) for at in (3, 5, 9))]
)
def test_a_killed_run_ends_at_the_same_step(program, tmp_path, at):
  """Checkpoints are at steps 3, 6 and 9, evaluations at even ones."""

  def kill(batch):
    if batch == at:
      raise KeyboardInterrupt  # Nothing is saved, as after SIGKILL.

  with pytest.raises(KeyboardInterrupt):
    run(program, tmp_path, every=3, batches=tiny_run.Batches(hook=kill))
  outcome = run(program, tmp_path, every=3)
  assert (outcome.step, outcome.exit_status) == (10, 0)


@pytest.mark.slow
def test_a_signal_between_two_evaluations_changes_nothing(program, tmp_path):
  def stop(batch):
    if batch == 6:
      signal.raise_signal(signal.SIGTERM)

  outcome = run(program, tmp_path, batches=tiny_run.Batches(hook=stop))
  assert outcome.exit_status == 143 and outcome.step < 10
  assert run(program, tmp_path).step == 10
