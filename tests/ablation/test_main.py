"""The table of the parts of the recipe."""

import json
import pathlib
import subprocess
import sys

import pytest

from nfnets import errors
from nfnets.ablation import __main__ as ablation

ROOT = pathlib.Path(__file__).parents[2]


def write_metrics(path, top1, rates, ema=True):
  lines = [
    {'step': i, 'train/loss': 1.0, 'images_per_second': rate}
    for i, rate in enumerate(rates)
  ]
  lines.insert(1, {'step': 1, 'eval/top1': 0.1, 'eval/ema_top1': 0.1})
  last = {'step': 9, 'eval/top1': top1}
  lines.append(last | {'eval/ema_top1': top1 - 0.01} if ema else last)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def test_a_result_is_the_last_evaluation_and_the_median_step_time(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  write_metrics(path, 0.98, rates=[1.0, 100.0, 200.0, 400.0])
  assert ablation.read_result(path, 64) == (0.98, 0.97, 0.32)
  write_metrics(path, 0.5, rates=[32.0], ema=False)
  assert ablation.read_result(path, 64) == (0.5, None, 2.0)


@pytest.mark.parametrize(
  'text, reason',
  [
    ('', 'IndexError'),
    ('{"step": 1}\n', 'IndexError'),
    ('garbage\n', 'Expecting value'),
    ('[' * 10**5, 'nested deeper'),
    ('[1]\n', 'IndexError'),
    (
      '{"eval/top1": "x", "train/loss": 1, "images_per_second": 2}',
      'ValueError',
    ),
    ('{"eval/top1": 1, "train/loss": 1, "images_per_second": 0}', 'ZeroDiv'),
  ],
)
def test_results_of_another_kind_are_one_line(tmp_path, text, reason):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(text)
  with pytest.raises(
    errors.UserError, match=f'no results .*{reason}'
  ) as caught:
    ablation.read_result(path, 32)
  assert f'remove {tmp_path} to run it again' in str(caught.value)


def test_the_table_has_means_ranges_and_medians():
  runs = [
    ablation.Result(0.97, 0.98, 0.1),
    ablation.Result(0.98, 0.98, 0.3),
    ablation.Result(0.99, 0.98, 0.12),
  ]
  rows = ablation.table({'SAM': runs, 'x': [ablation.Result(1, None, 0.5)]})
  assert rows.splitlines()[2:] == [
    '| SAM | 98.00% (97.00-99.00) | 98.00% (98.00-98.00) | 120 ms |',
    '| x | 100.00% (100.00-100.00) | - | 500 ms |',
  ]


def test_every_switch_is_run_with_every_seed(tmp_path, monkeypatch, capsys):
  seen = []

  def train(command, **kwargs):
    del kwargs
    folder = pathlib.Path(command[-1].partition('=')[2])
    seen.append((folder.relative_to(tmp_path), command))
    write_metrics(folder / 'metrics.jsonl', 0.9, [1.0, 64.0])
    return subprocess.CompletedProcess(command, 0)

  monkeypatch.setattr(subprocess, 'run', train)
  monkeypatch.setattr(
    sys,
    'argv',
    ['', f'--workdir={tmp_path}', f'--config={ROOT}/experiments/digits.py']
    + ['--seeds=2', '--config.train.batch_size=32'],
  )
  assert ablation.main() == 0
  assert len(seen) == len({folder for folder, _ in seen}) == 14
  folder, command = seen[-1]
  assert str(folder) == 'everything/seed_1'
  for setting in (
    'augment.randaugment_layers=1',
    'augment.cutmix_alpha=1.0',
    'train.sam_rho=0.05',
    'train.dtype=bfloat16',
    'train.accumulation=4',
    'train.batch_size=32',
    'seed=1',
  ):
    assert f'--config.{setting}' in command
  rows = capsys.readouterr().out.splitlines()
  assert len(rows) == 2 + len(ablation.SWITCHES)
  assert rows[2].endswith('| 500 ms |')


@pytest.mark.slow
def test_all_parts_together_train(tmp_path):
  run = subprocess.run(
    [sys.executable, '-m', 'nfnets.ablation', f'--workdir={tmp_path}']
    + ['--seeds=1', '--only', 'nothing', 'everything']
    + ['--config.train.steps=4', '--config.log.every_steps=2']
    + ['--config.optimizer.warmup_epochs=0'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stderr
  assert run.stdout.count('| everything | ') == 1


def test_the_error_of_a_failed_run_is_reported(tmp_path):
  settings = [f'--config={ROOT}/experiments/digits.py', '--config.seed=x']
  with pytest.raises(errors.UserError, match='status 1 .*seed.*output.txt'):
    ablation._train(settings, tmp_path / 'run')


def test_a_wrong_setting_is_one_line_before_any_run(tmp_path):
  run = subprocess.run(
    [sys.executable, '-m', 'nfnets.ablation', f'--workdir={tmp_path}/x']
    + ['--config.train.stepz=4'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert run.returncode == 1 and run.stderr.count('\n') == 1
  assert 'train.steps' in run.stderr
  assert not (tmp_path / 'x').exists()
