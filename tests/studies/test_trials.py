"""One training run of a study: its numbers, divergence, and where it starts."""

import json
import math

import pytest

from nfnets import errors
from nfnets.studies import results, runner, small, trials

TINY = {
  **small.network(),
  **small.images('digits', 16),
  **small.length(12),
  'model.name': 'nf_resnet50',
  'model.width': 0.25,
  'model.skip_gain_init': 0.5,
  'optimizer.clipping': 0.01,
  'train.batch_size': 32,
}


def write_metrics(path, top1, rates, ema=True, clipped=()):
  lines = [
    {'step': i, 'train/loss': 1.0, 'images_per_second': rate}
    for i, rate in enumerate(rates)
  ]
  lines += [{'step': 8, 'train/agc_clipped': x} for x in clipped]
  lines.insert(1, {'step': 1, 'eval/top1': 0.1, 'eval/ema_top1': 0.1})
  last = {'step': 9, 'eval/top1': top1, 'eval/loss': 2.0}
  lines.append(last | {'eval/ema_top1': top1 - 0.25} if ema else last)
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def test_numbers_are_the_last_evaluation_and_the_median_step_time(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  write_metrics(path, 0.75, [1.0, 100.0, 200.0, 400.0], clipped=[0.5, 1.0])
  assert trials.read_numbers(path, 64) == {
    'step': 9.0,
    'top1': 0.75,
    'ema_top1': 0.5,
    'loss': 2.0,
    'step_time': 0.32,
    'clipped': 0.75,
  }
  write_metrics(path, 0.5, rates=[32.0], ema=False)
  numbers = {'step': 9.0, 'top1': 0.5, 'loss': 2.0, 'step_time': 2.0}
  assert trials.read_numbers(path, 64) == numbers


def test_what_is_not_finite_is_nan(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1, "eval/top1": 0.1, "eval/loss": null}\n')
  numbers = trials.read_numbers(path, 64)
  assert numbers['top1'] == 0.1 and math.isnan(numbers['loss'])


@pytest.mark.parametrize(
  'text, reason',
  [
    ('', 'IndexError'),
    ('{"step": 1}\n', 'IndexError'),
    ('garbage\n', 'Expecting value'),
    ('[' * 10**5, 'nested deeper'),
    ('[1]\n', 'IndexError'),
    ('{"step": 1, "eval/top1": "x", "eval/loss": 1}', 'ValueError'),
    (
      '{"step": 1, "eval/top1": 1, "eval/loss": 1, "images_per_second": 0}',
      'ZeroDiv',
    ),
  ],
)
def test_results_of_another_kind_are_one_line(tmp_path, text, reason):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(text)
  with pytest.raises(
    errors.UserError, match=f'no results .*{reason}'
  ) as caught:
    trials.read_numbers(path, 32)
  assert f'remove {tmp_path} to run it again' in str(caught.value)


def test_an_error_of_a_run_has_the_path_of_its_output(tmp_path, monkeypatch):
  def fail(config, folder):
    print('a line of the run')
    raise errors.UserError('out of memory')

  monkeypatch.setattr(trials.train_lib, 'train', fail)
  with pytest.raises(errors.UserError, match='out of memory .*output.txt'):
    trials.train(results.Run({}, TINY), tmp_path / 'run', None)
  output = (tmp_path / 'run' / trials.LOG).read_text()
  assert output == 'a line of the run\nerror: out of memory\n'


def test_a_signal_is_passed_on(tmp_path, monkeypatch):
  monkeypatch.setattr(trials.train_lib, 'train', lambda config, folder: 143)
  with pytest.raises(runner.Interrupted) as caught:
    trials.train(results.Run({}, TINY), tmp_path, None)
  assert caught.value.status == 143


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match='--out'):
    trials.train(results.Run({}, TINY), tmp_path / 'file' / 'run', None)


@pytest.mark.slow
def test_a_run_trains_and_another_starts_from_it(tmp_path, capsys):
  first = results.Run({'x': 1}, TINY, keep=True)
  numbers = trials.train(first, tmp_path / '1', None)
  assert numbers['step'] == 12 and 0 < numbers['top1'] <= 1
  assert 0 <= numbers['clipped'] <= 1
  assert capsys.readouterr() == ('', '')
  second = results.Run({'x': 2}, {**TINY, 'data.eval_size': 24})
  trials.train(second, tmp_path / '2', tmp_path / '1')
  config = json.loads((tmp_path / '2' / 'config.json').read_text())
  assert config['init_from'] == str(tmp_path / '1' / 'weights.safetensors')


@pytest.mark.slow
def test_a_run_that_diverges_says_at_which_step(tmp_path):
  wild = {**TINY, 'optimizer.clipping': 0.0, 'optimizer.learning_rate': 1e9}
  with pytest.raises(runner.Diverged) as caught:
    trials.train(results.Run({}, wild), tmp_path, None)
  assert 1 < caught.value.numbers['step'] <= 12
