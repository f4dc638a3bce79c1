"""Whole runs with growing images, early stopping and a test split."""

import json
import shutil

import pytest

from nfnets.experiment import evaluate, train
from nfnets.training import checkpoint
from tests.experiment import tiny
from tests.training import tiny as training_tiny

pytestmark = pytest.mark.slow


@pytest.fixture
def config():
  config = tiny.make_config(32)
  config.data.eval_preset = 'timm'
  config.train.batch_size = 48
  config.train.steps = 8
  config.optimizer.warmup_epochs = 0.0
  config.eval.every_steps = 2
  config.checkpoint.every_steps = 1
  config.checkpoint.keep = 100
  config.log.every_steps = 1
  return config


def lines(workdir):
  """Returns the lines of metrics.jsonl without the speed."""
  text = (workdir / 'metrics.jsonl').read_text()
  parsed = [json.loads(line) for line in text.splitlines()]
  return [
    {k: v for k, v in line.items() if k != 'images_per_second'}
    for line in parsed
  ]


def evaluated(workdir):
  return [line['step'] for line in lines(workdir) if 'eval/top1' in line]


def weights_of(workdir, step):
  return checkpoint.read_weights(workdir / 'checkpoints', step, ema=False)


def test_a_run_with_growing_images_resumes_exactly(config, tmp_path, capsys):
  config.data.progressive_size = 16
  whole = tmp_path / 'whole'
  assert train.train(config, whole) == 0
  out = capsys.readouterr().out
  assert '16 px, 24 px from step 3 on, 32 px from step 7 on' in out
  order = [
    out.index(f'images of {text}\n')
    for text in (
      '16 px: compiling the train step',
      '24 px: compiling the train step',
      '32 px',
    )
  ]
  assert order == sorted(order)
  # Before a change of the size, and where it changes.
  for at in (5, 6):
    resumed = shutil.copytree(whole, tmp_path / str(at))
    for step in range(at + 1, 9):
      shutil.rmtree(resumed / 'checkpoints' / str(step))
    assert train.train(config, resumed) == 0
    one, other = weights_of(whole, 8), weights_of(resumed, 8)
    training_tiny.assert_trees_equal(one.params, other.params)
    assert lines(resumed) == lines(whole)


def test_a_run_that_stopped_early_continues_on_request(
  config, tmp_path, capsys
):
  """At a learning rate of 0 nothing improves after the first evaluation."""
  config.optimizer.learning_rate = 0.0
  config.train.early_stopping_patience = 2
  config.train.steps = 20
  assert train.train(config, tmp_path) == 0
  out = capsys.readouterr().out
  assert 'stopped early at step 6: eval/top1 has not improved in 2' in out
  assert 'held-out accuracy: ' in out and 'next:' in out
  assert evaluated(tmp_path) == [2, 4, 6]
  assert (tmp_path / 'checkpoints' / '2').exists()  # the best
  before = lines(tmp_path)
  assert train.train(config, tmp_path) == 0
  assert 'stopped early at step 6' in capsys.readouterr().out
  assert lines(tmp_path) == before
  # Made longer, also if it is killed before its next evaluation.
  config.train.steps = 30
  resumed = shutil.copytree(tmp_path, tmp_path / 'killed')
  assert train.train(config, tmp_path) == 0
  assert evaluated(tmp_path) == [2, 4, 6, 8, 10]
  shutil.copy(tmp_path / 'config.json', resumed)
  shutil.copytree(tmp_path / 'checkpoints' / '7', resumed / 'checkpoints' / '7')
  assert train.train(config, resumed) == 0
  assert evaluated(resumed) == [2, 4, 6, 8, 10]
  # Or with more patience, which step 8 would have exhausted.
  config.train.early_stopping_patience = 3
  assert train.train(config, tmp_path) == 0
  assert evaluated(tmp_path) == [2, 4, 6, 8, 10, 12, 14]


def test_the_test_split_is_measured_at_the_end(config, tmp_path, capsys):
  config.data.held_out = 0.2
  config.train.ema_decay = 0.9
  assert train.train(config, tmp_path) == 0
  out = capsys.readouterr().out
  assert '1,150 images (train)' in out and '287 held out (valid)' in out
  (test,) = [line for line in lines(tmp_path) if 'test/top1' in line]
  assert test['step'] == 8 and test['test/count'] == 360
  counts = {line.get('eval/count', 287) for line in lines(tmp_path)}
  assert counts == {287}
  assert f'\ntest accuracy: {test["test/top1"]:.2%}\n' in out
  before = lines(tmp_path)
  assert train.train(config, tmp_path) == 0
  assert 'test accuracy: ' in capsys.readouterr().out
  assert lines(tmp_path) == before
  # --mode=eval measures the split in the settings.
  for split, key, count in (('test', 'test', 360), ('valid', 'eval', 287)):
    config.data.eval_split = split
    evaluate.evaluate(config, tmp_path, None)
    first = capsys.readouterr().out.splitlines()[0]
    last = [line for line in before if f'{key}/top1' in line][-1]
    assert f'top-1 {last[f"{key}/top1"]:.2%}' in first
    assert f'on {count} images of digits ({split})' in first
