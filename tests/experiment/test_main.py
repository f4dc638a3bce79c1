"""The program as users run it, in separate processes."""

import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from nfnets.experiment import __main__ as entry
from nfnets.experiment import command_line, evaluate, resume, train
from nfnets.export import targets
from nfnets.inference import runs
from nfnets.runtime import compilation
from tests.experiment import tiny

ROOT = pathlib.Path(__file__).parents[2]
# Small and short, but complete: twelve steps on the digits.
TINY = (
  '--config=experiments/digits.py',
  *tiny.NETWORK,
  *tiny.TWELVE_STEPS,
  '--config.eval.every_steps=4',
  '--config.checkpoint.every_steps=4',
)


def start(*arguments, **options):
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  return subprocess.Popen(
    [sys.executable, '-m', 'nfnets.experiment', *arguments],
    cwd=ROOT,
    env=environment,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


def finish(*arguments):
  process = start(*arguments)
  out, err = process.communicate(timeout=300)
  return process.returncode, out, err


def metrics(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('trained')
  status, out, err = finish(*TINY, f'--workdir={workdir}')
  assert status == 0, err
  return workdir, out, err


def test_a_run_prints_its_model_accuracy_and_paths(trained):
  workdir, out, err = trained
  assert err == ''
  assert 'held-out accuracy: ' in out
  for name in ('checkpoints/12', 'metrics.jsonl', 'tensorboard', 'report.html'):
    assert str(workdir / name) in out
    assert (workdir / name).exists()
  assert 'nfnet_f0: ' in out
  assert re.search(r'memory +\d+ MiB for a train step, .* free ', out)
  assert (
    json.loads((workdir / 'config.json').read_text())['train.batch_size'] == 96
  )


def test_a_start_that_failed_leaves_the_workdir_free(trained, tmp_path):
  path, workdir = tmp_path / 'file.safetensors', tmp_path / 'run'
  loaded = runs.load(trained[0])
  targets.write(loaded, path, 'nfnets')
  wrong = ('--config.model.se_ratio=0.25', f'--config.init_from={path}')
  status, _, err = finish(*TINY, *wrong, f'--workdir={workdir}')
  assert status == 1
  assert '--config.model.se_ratio=0.5' in err and err.count('\n') == 1
  # With other settings: the failed start left no results.
  status, out, err = finish(
    *TINY, f'--config.init_from={path}', f'--workdir={workdir}'
  )
  assert status == 0, err
  assert 'held-out accuracy: ' in out


def test_metrics_file(trained):
  rows = metrics(trained[0])
  assert [row['step'] for row in rows if 'train/loss' in row] == [
    2, 4, 6, 8, 10, 12,
  ]  # fmt: skip
  assert [row['step'] for row in rows if 'eval/top1' in row] == [4, 8, 12]
  last = {k: v for row in rows if row['step'] == 12 for k, v in row.items()}
  for name in ('train/agc_clipped', 'eval/ema_top1', 'images_per_second'):
    assert name in last
  assert 0 <= last['train/agc_clipped'] <= 1
  # A fraction of the 360 held-out digits, each counted once.
  assert last['eval/top1'] * 360 == pytest.approx(
    round(last['eval/top1'] * 360), abs=1e-6
  )


def test_rerunning_a_finished_run_changes_nothing(trained):
  workdir, _, _ = trained
  before = metrics(workdir)
  status, out, err = finish(*TINY, f'--workdir={workdir}')
  assert status == 0, err
  assert 'held-out accuracy: ' in out
  assert metrics(workdir) == before


def test_evaluation_of_a_checkpoint_needs_only_the_workdir(trained):
  workdir, _, _ = trained
  report = (workdir / 'report.html').read_text()
  status, out, err = finish(f'--workdir={workdir}', '--mode=eval')
  assert status == 0, err
  lines = out.splitlines()
  last = {k: v for row in metrics(workdir) for k, v in row.items()}
  for prefix, name in (('', 'weights'), ('ema_', 'averaged weights')):
    top1, top5, loss = (
      last[f'eval/{prefix}{key}'] for key in ('top1', 'top5', 'loss')
    )
    assert (
      f'{name} of step 12: top-1 {top1:.2%}, top-5 {top5:.2%},'
      f' loss {loss:.4f} on 360 images of digits (test)'
    ) in lines
  assert lines[2:] == [f'report: {workdir}/report.html']
  assert (workdir / 'report.html').read_text() == report


def test_other_settings_are_an_error(trained):
  workdir, _, _ = trained
  status, _, err = finish(
    *TINY, '--config.optimizer.momentum=0.8', f'--workdir={workdir}'
  )
  assert status == 1
  assert 'optimizer.momentum: 0.9 -> 0.8' in err
  assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_finished_run_becomes_longer(trained, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(trained[0], workdir)
  longer = (f'--workdir={workdir}', '--config.train.steps=20')
  status, out, err = finish(*longer)
  assert status == 0, err
  assert 'had 12 steps and now has 20: from step 12 on' in out
  rates = {
    row['step']: row['train/learning_rate']
    for row in metrics(workdir)
    if 'train/learning_rate' in row
  }
  # Warm-up of two steps; step k uses the rate at k - 1.
  for step, rate in rates.items():
    total = 12 if step <= 12 else 20
    done = max(0, step - 1 - 2) / (total - 2)
    warm = min(1, (step - 1) / 2)
    expected = 0.1 * warm * (1 + math.cos(math.pi * done)) / 2
    assert rate == pytest.approx(expected, rel=1e-5), step
  assert sorted(rates) == list(range(2, 21, 2))
  for command in (longer, (*TINY, *longer)):
    status, out, err = finish(*command)
    assert (status, 'had 12 steps' in out) == (0, False), err
  status, _, err = finish(*TINY, f'--workdir={workdir}')
  assert status == 1
  assert 'train.steps: 20 -> 12' in err and 'cannot become shorter' in err
  assert err.count('\n') == 1


@pytest.mark.parametrize(
  'arguments, expected',
  [
    (('--config.model.group_size=48',), '48'),
    (('--mode=eval',), 'checkpoint'),
    (('--mode=eval', '--weights=/no/such/file'), '/no/such/file'),
  ],
)
def test_errors_are_one_line_before_any_step(tmp_path, arguments, expected):
  status, out, err = finish(*TINY, f'--workdir={tmp_path}', *arguments)
  assert status in (1, 2)
  assert expected in err
  assert 'Traceback' not in err
  assert len(err.splitlines()) == 1
  assert 'step' not in out


def test_help_lists_the_variants_beside_the_config(tmp_path):
  status, out, err = finish('--help')
  assert (status, err) == (0, '')
  assert 'experiments/nf_regnet.py: b0, b1, b2, b3, ' in out
  (tmp_path / 'mine.py').write_text("VARIANTS = ('small', 'large')\n")
  status, out, err = finish('--help', f'--config={tmp_path}/mine.py')
  assert (status, err) == (0, '')
  assert f'{tmp_path}/mine.py: small, large\n' in out
  assert 'nf_regnet.py: ' not in out


def test_the_default_workdir_contains_the_variant(monkeypatch):
  seen = []
  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(
    train, 'train', lambda config, workdir: seen.append(workdir) or 0
  )
  monkeypatch.setattr(compilation, 'prepare', lambda **_: None)
  for value in ('nf_regnet.py:b3', 'nf_regnet.py', 'nfnet_f0.py'):
    monkeypatch.setattr(sys, 'argv', ['', f'--config=experiments/{value}'])
    assert entry.main() == 0
  names = ['nf_regnet_b3', 'nf_regnet_b0', 'nfnet_f0']
  assert seen == [pathlib.Path('runs', name) for name in names]


def test_settings_of_the_first_run_among_the_weights(monkeypatch, tmp_path):
  monkeypatch.chdir(ROOT)
  seen = []
  monkeypatch.setattr(evaluate, 'evaluate', lambda *a: seen.append(a) or 0)
  monkeypatch.setattr(compilation, 'prepare', lambda **_: None)
  config, _ = command_line.parse_config(
    [f'--config={ROOT}/experiments/digits.py']
  )
  config.seed = 1234
  run = tmp_path / 'run'
  (run / 'checkpoints').mkdir(parents=True)
  resume.save_settings(config, run)
  files = ['file.npz', str(run)]
  options = [f'--weights={path}' for path in files]
  monkeypatch.setattr(sys, 'argv', ['', '--mode=eval', *options, '--best'])
  assert entry.main() == 0
  ((found, *rest),) = seen
  assert found.seed == 1234 and rest == [run, files, True]


@pytest.mark.parametrize('option', ['--weights=file', '--best'])
def test_options_of_evaluation_need_its_mode(monkeypatch, capsys, option):
  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(sys, 'argv', ['', TINY[0], option])
  with pytest.raises(SystemExit):
    entry.main()
  message = f'{option.partition("=")[0]} needs --mode=eval'
  assert message in capsys.readouterr().err
