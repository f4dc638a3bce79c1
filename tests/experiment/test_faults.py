"""The program meets a fault in mid-run: how it ends and what is left."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

from nfnets.training import checkpoint
from tests.experiment import tiny

pytestmark = pytest.mark.slow

LONG = (
  '--config=experiments/digits.py',
  *tiny.NETWORK,
  '--config.train.steps=4000',
  '--config.optimizer.warmup_steps=2',
  '--config.eval.every_steps=4000',
  '--config.checkpoint.every_steps=4',
)


def start(*arguments):
  return subprocess.Popen(
    [sys.executable, '-m', 'nfnets.experiment', *arguments],
    cwd=pathlib.Path(__file__).parents[2],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def replace_workdir(workdir):
  workdir.rename(workdir.with_name('moved'))
  workdir.write_text('')
  yield
  workdir.unlink()
  workdir.with_name('moved').rename(workdir)


def replace_checkpoints(workdir):
  (workdir / 'checkpoints').rename(workdir / 'moved')
  (workdir / 'checkpoints').write_text('')
  yield
  (workdir / 'checkpoints').unlink()
  (workdir / 'moved').rename(workdir / 'checkpoints')


def mount_read_only(workdir):
  mount = ['mount', '--bind', str(workdir), str(workdir)]
  try:
    subprocess.run(mount, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip('file systems cannot be mounted here')
  try:
    mount = ['mount', '-o', 'remount,ro,bind', str(workdir)]
    subprocess.run(mount, check=True)
    yield
  finally:
    subprocess.run(['umount', '--lazy', str(workdir)], check=True)


@pytest.mark.parametrize(
  'fault, reason',
  [
    (replace_workdir, 'Not a directory'),
    (replace_checkpoints, 'Not a directory'),
    (mount_read_only, 'Read-only file system'),
  ],
)
def test_an_unwritable_workdir_ends_the_run_within_a_minute(
  tmp_path, fault, reason
):
  workdir = tmp_path / 'run'
  process = start(*LONG, f'--workdir={workdir}')
  while not (workdir / 'checkpoints' / '4').exists():
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.01)
  broken = fault(workdir)
  next(broken)
  begun = time.monotonic()
  _, err = process.communicate(timeout=100)
  assert time.monotonic() - begun < 60
  assert process.returncode == 1
  *warnings, error = err.splitlines()
  assert re.fullmatch(
    rf'error: checkpoint (\d+) cannot be written to {workdir}/checkpoints: .*'
    rf'{reason}.* Last good checkpoint: .*',
    error,
  )
  assert len(warnings) <= 2 and all('cannot be written' in x for x in warnings)
  assert next(broken, None) is None  # put back
  assert checkpoint.read_weights(workdir / 'checkpoints').step >= 4


DIVERGING = (
  '--config=experiments/digits.py',
  *tiny.NETWORK,
  *tiny.TWELVE_STEPS,
  '--config.train.dtype=float32',
  '--config.optimizer.learning_rate=1e30',
  '--config.checkpoint.every_steps=1',
)


@pytest.mark.parametrize('limit', [0, 2])
def test_divergence_ends_the_run_and_keeps_the_last_checkpoint(tmp_path, limit):
  settings = (*DIVERGING, f'--config.train.skip_nonfinite={limit}')
  process = start(*settings, f'--workdir={tmp_path}')
  _, err = process.communicate(timeout=300)
  assert process.returncode == 1
  *warnings, error = err.splitlines()
  found = re.fullmatch(
    r'error: loss .*, gradient norm .* at step (\d+) are not finite: .*'
    r'last checkpoint: step (\d+)\). .*',
    error,
  )
  step, last = map(int, found.groups())
  assert (step, last) == (3 + limit, 2)
  assert checkpoint.read_weights(tmp_path / 'checkpoints').step == last
  assert len(warnings) == limit
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  train = [x for x in map(json.loads, lines) if 'train/loss' in x]
  assert all(x['step'] < step for x in train)
  if limit:
    assert train[-1]['train/skipped'] > 0
