import errno
import io
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import errors
from nfnets.training import checkpoint, devices, event_file, loop, metrics_file
from tests.training import tiny, tiny_run


@pytest.fixture(scope='module')
def program():
  return tiny_run.Program()


@pytest.fixture(scope='module')
def whole(program, tmp_path_factory):
  """Workdir and outcome of an uninterrupted run."""
  workdir = tmp_path_factory.mktemp('whole')
  outcome = program.run(workdir)
  return workdir, outcome._replace(state=jax.device_get(outcome.state))


def lines(workdir):
  """The lines of metrics.jsonl without the speed."""
  text = (workdir / 'metrics.jsonl').read_text()
  parsed = [json.loads(line) for line in text.splitlines()]
  for line in parsed:
    line.pop('images_per_second', None)
  return parsed


def steps_in(workdir):
  return sorted(int(p.name) for p in (workdir / 'checkpoints').iterdir())


def send(number, at):
  """Returns a hook that sends this process a signal before batch `at`."""

  def hook(batch):
    if batch == at:
      os.kill(os.getpid(), number)

  return hook


def test_reports_evaluates_and_saves_at_the_given_steps(whole):
  workdir, outcome = whole
  assert outcome.step == 12 and outcome.exit_status == 0
  assert int(outcome.state.step) == 12
  written = lines(workdir)
  assert [line['step'] for line in written] == [2, 4, 4, 6, 8, 8, 10, 12, 12]
  train = [line for line in written if 'train/loss' in line]
  assert set(train[0]) == {
    'step',
    'train/loss',
    'train/top1',
    'train/grad_norm',
    'train/agc_clipped',
    'train/learning_rate',
  }
  last = written[-1]
  assert {'step': 12, **outcome.metrics} == last
  assert last['eval/count'] == 32 and 'eval/ema_top1' in last
  # The latest two, and the best if it is older.
  scores = {x['step']: x['eval/top1'] for x in written if 'eval/top1' in x}
  best = max(scores, key=lambda step: (scores[step], step))
  assert steps_in(workdir) == sorted({8, 12, best})
  assert list((workdir / 'tensorboard').iterdir())


def test_reports_the_values_of_the_same_step(program, whole):
  # The scalars are read a few steps later, but not from a later step.
  state = devices.replicate(program.initial)
  for number in range(4):
    batch = devices.shard_batch(tiny.make_batch(tiny_run.BATCH, number))
    state, scalars = program.train_step(state, batch)
  fourth = next(x for x in lines(whole[0]) if x['step'] == 4)
  assert fourth['train/loss'] == float(scalars['loss'])


def test_a_run_without_space_for_reports_still_learns_and_saves(
  program, whole, tmp_path, monkeypatch, caplog
):
  def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  with monkeypatch.context() as patch:
    patch.setattr(metrics_file.MetricsFile, 'write', full)
    patch.setattr(event_file.EventFile, 'write', full)
    stopped = program.run(
      tmp_path, batches=tiny_run.Batches(hook=send(signal.SIGTERM, 6))
    )
  assert stopped.exit_status == 143 and stopped.step in steps_in(tmp_path)
  assert len(caplog.records) == 2 and lines(tmp_path) == []
  outcome = program.run(tmp_path)
  tiny.assert_trees_equal(outcome.state, whole[1].state)
  rest = [x for x in lines(whole[0]) if x['step'] > stopped.step]
  assert lines(tmp_path) == rest


def test_running_again_does_nothing(program, whole, tmp_path):
  workdir, outcome = whole
  before = lines(workdir)
  batches = tiny_run.Batches(hook=lambda k: pytest.fail(f'requested batch {k}'))
  again = program.run(workdir, eval_batches=batches)
  tiny.assert_trees_equal(again.state, outcome.state)
  assert again.metrics == outcome.metrics
  assert lines(workdir) == before


@pytest.mark.parametrize(
  'number, status, at',
  [
    (signal.SIGTERM, 143, 2),
    (signal.SIGINT, 130, 2),
    (signal.SIGHUP, 129, 2),
    (signal.SIGTERM, 143, 8),
    (signal.SIGINT, 130, 8),
  ],
)
def test_stopping_by_a_signal_and_resuming_equals_not_stopping(
  program, whole, tmp_path, number, status, at
):
  batches = tiny_run.Batches(hook=send(number, at))
  outcome = program.run(tmp_path, batches=batches)
  assert outcome.exit_status == status
  assert 0 < outcome.step < 12
  assert outcome.step in steps_in(tmp_path)
  assert batches.closed
  end = program.run(tmp_path)
  assert end.exit_status == 0
  tiny.assert_trees_equal(end.state, whole[1].state)
  assert end.metrics == whole[1].metrics
  assert lines(tmp_path) == lines(whole[0])


def test_a_signal_before_the_first_step_needs_no_checkpoint(program, tmp_path):
  outcome = program.run(
    tmp_path, batches=tiny_run.Batches(hook=send(signal.SIGTERM, 0))
  )
  # The first batch is requested after the loop has started.
  assert outcome.exit_status == 143 and outcome.step <= 1


def test_a_signal_during_evaluation(program, whole, tmp_path):
  split = tiny_run.Batches(2, hook=send(signal.SIGTERM, 1))
  outcome = program.run(tmp_path, eval_batches=split)
  assert (outcome.step, outcome.exit_status) == (4, 143)
  assert outcome.metrics == {} and split.closed
  assert steps_in(tmp_path) == [4]
  # The interrupted evaluation is repeated when the run resumes.
  end = program.run(tmp_path)
  tiny.assert_trees_equal(end.state, whole[1].state)
  assert lines(tmp_path) == lines(whole[0])


def test_a_second_signal_lets_the_save_finish(program, tmp_path, monkeypatch):
  save = checkpoint.Checkpointer.save

  def twice(self, *args, **kwargs):
    os.kill(os.getpid(), signal.SIGINT)
    save(self, *args, **kwargs)
    os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(checkpoint.Checkpointer, 'save', twice)
  batches = tiny_run.Batches(hook=send(signal.SIGTERM, 2))
  outcome = program.run(tmp_path, batches=batches)
  assert outcome.exit_status == 143
  assert steps_in(tmp_path) == [outcome.step]
  weights = checkpoint.read_weights(tmp_path / 'checkpoints', ema=False)
  tiny.assert_trees_equal(weights.params, outcome.state.params)


def test_signal_handlers_are_restored(program, tmp_path):
  before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
  program.run(tmp_path, steps=1)
  after = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
  assert before == after


def test_divergence_stops_the_run_and_overwrites_nothing(program, tmp_path):
  def train_step(state, batch):
    if float(np.asarray(state.step)) < 6:
      return program.train_step(state, batch)
    # uint8 images cannot be NaN, but parameters can.
    params = jax.tree.map(lambda x: x * jnp.nan, state.params)
    return program.train_step(state._replace(params=params), batch)

  broken = tiny_run.Program.__new__(tiny_run.Program)
  broken.__dict__.update(program.__dict__, train_step=train_step)
  with pytest.raises(loop.DivergedError) as caught:
    broken.run(tmp_path)
  text = str(caught.value)
  assert (
    'at step 7 are not finite' in text and 'last checkpoint: step 4' in text
  )
  assert '\n' not in text
  assert steps_in(tmp_path) == [4]
  # The metrics up to the failed step are kept, and dropped on resuming.
  assert [line['step'] for line in lines(tmp_path)] == [2, 4, 4, 6, 7]
  assert lines(tmp_path)[-1]['train/loss'] is None


def test_divergence_between_reports_keeps_the_last_metrics(program, tmp_path):
  def train_step(state, batch):
    new, scalars = program.train_step(state, batch)
    finite = jnp.where(new.step == 4, 0.0, scalars['finite'])
    return new, {**scalars, 'finite': finite}

  broken = tiny_run.Program.__new__(tiny_run.Program)
  broken.__dict__.update(program.__dict__, train_step=train_step)
  with pytest.raises(loop.DivergedError, match='at step 4'):
    broken.run(tmp_path, eval_every=12)
  assert [line['step'] for line in lines(tmp_path)] == [2, 3, 4]
  assert lines(tmp_path)[1]['train/loss'] > 0


@pytest.mark.parametrize(
  'every, expected', [(5, [5, 12]), (11, [12]), (8, [8, 12]), (4, [4, 8, 12])]
)
def test_the_end_is_evaluated_once(program, tmp_path, every, expected):
  program.run(tmp_path, eval_every=every)
  assert [x['step'] for x in lines(tmp_path) if 'eval/top1' in x] == expected


def test_divergence_at_the_step_of_a_checkpoint_is_not_saved(program, tmp_path):
  def train_step(state, batch):
    new, scalars = program.train_step(state, batch)
    finite = jnp.where(new.step == 8, 0.0, scalars['finite'])
    return new, {**scalars, 'finite': finite}

  broken = tiny_run.Program.__new__(tiny_run.Program)
  broken.__dict__.update(program.__dict__, train_step=train_step)
  with pytest.raises(loop.DivergedError, match='at step 8'):
    broken.run(tmp_path, eval_every=12)
  assert steps_in(tmp_path) == [4]


def test_replicas_that_differ_are_not_saved(program, tmp_path):
  def drift(x):
    copies = [np.array(x) for _ in jax.local_devices()]
    copies[3].view(np.uint32).ravel()[0] ^= 1
    shards = [
      jax.device_put(c, d)
      for c, d in zip(copies, jax.local_devices(), strict=True)
    ]
    return jax.make_array_from_single_device_arrays(x.shape, x.sharding, shards)

  def train_step(state, batch):
    state, scalars = program.train_step(state, batch)
    return state._replace(params=jax.tree.map(drift, state.params)), scalars

  broken = tiny_run.Program.__new__(tiny_run.Program)
  broken.__dict__.update(program.__dict__, train_step=train_step)
  with pytest.raises(errors.UserError, match='different states at step 4'):
    broken.run(tmp_path)
  assert steps_in(tmp_path) == []


def test_a_failing_pipeline_ends_the_run(program, tmp_path):
  def hook(batch):
    if batch == 6:
      raise OSError('disk gone')

  batches = tiny_run.Batches(hook=hook)
  with pytest.raises(OSError, match='disk gone'):
    program.run(tmp_path, batches=batches)
  assert steps_in(tmp_path) == [4]
  # The checkpoint being written at that time is intact.
  assert checkpoint.read_weights(tmp_path / 'checkpoints').step == 4


def test_prints_plain_lines_without_a_terminal(program, tmp_path):
  stream = io.StringIO()
  program.run(tmp_path, stream=stream)
  text = stream.getvalue().splitlines()
  assert len(text) == 9
  assert text[1].startswith('step 4/12: loss ')
  assert 'images/s' in text[1] and text[1].endswith(' left')
  assert text[2].startswith('step 4/12: eval/')
