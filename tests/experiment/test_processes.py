"""Runs of several processes or devices on this machine equal a run of one."""

import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import pytest

from nfnets.training import checkpoint
from tests import helpers
from tests.experiment import tiny as experiment_tiny
from tests.training import tiny

ROOT = pathlib.Path(__file__).parents[2]
OPTIONS = (
  '--config=experiments/digits.py',
  *experiment_tiny.NETWORK,
  *experiment_tiny.TWELVE_STEPS,
  '--config.eval.every_steps=6',
  '--config.checkpoint.every_steps=2',
)
# The draws of 'rbg' would depend on the number of devices.
DRAWS = {'JAX_PLATFORMS': 'cpu', 'JAX_DEFAULT_PRNG_IMPL': 'rbg'}
# The processes may start far apart on a busy machine.
PATIENT = '--connect_seconds=300'


def start(workdir, count, *options, last=ROOT):
  """Starts the processes of one run, with one device each.

  The last one runs the code in the folder `last`.
  """
  port = random.randrange(20_000, 30_000)
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': '1',
    'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{port}',
    'JAX_NUM_PROCESSES': str(count),
  }
  command = [sys.executable, '-m', 'nfnets.experiment', f'--workdir={workdir}']
  return [
    subprocess.Popen(
      [*command, *OPTIONS, *options, f'--process_id={index}'],
      cwd=last if index == count - 1 else ROOT,
      env=environment,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(count)
  ]


def finish(processes, timeout=400):
  """Returns (status, stdout, stderr) of each process."""
  deadline = time.monotonic() + timeout
  try:
    ends = []
    for process in processes:
      out, err = process.communicate(timeout=deadline - time.monotonic())
      ends.append((process.returncode, out, err))
    return ends
  finally:
    for process in processes:
      process.kill()


def train(workdir, count):
  for status, out, err in finish(start(workdir, count, PATIENT)):
    assert status == 0, out + err
  return parameters(workdir)


def parameters(workdir):
  saved = checkpoint.read_weights(workdir / 'checkpoints', ema=False)
  assert saved.step == 12
  return saved.params


@pytest.fixture(scope='module', name='alone')
def of_one_process(tmp_path_factory):
  return train(tmp_path_factory.mktemp('one'), 1)


@pytest.mark.slow
def test_four_processes_equal_one(tmp_path, alone):
  tiny.assert_trees_close(train(tmp_path, 4), alone, 1e-5)
  # Four processes evaluate a quarter each; process 0 writes the report.
  page = (tmp_path / 'report.html').read_bytes()
  for status, out, err in finish(start(tmp_path, 4, PATIENT, '--mode=eval')):
    assert status == 0, out + err
  assert (tmp_path / 'report.html').read_bytes() == page
  for status, out, err in finish(start(tmp_path, 1, '--mode=eval')):
    assert status == 0, out + err
  classes = (tmp_path / 'report' / 'per_class.csv').read_text()
  assert len(classes.splitlines()) == 11
  rows = [line.split(',') for line in classes.splitlines()[1:]]
  assert sum(int(row[2]) for row in rows) == 360


@pytest.mark.slow
def test_another_number_of_processes_resumes_what_a_killed_one_left(
  tmp_path, alone
):
  left = tmp_path / 'left'
  processes = start(left, 2, PATIENT)
  while not (left / 'checkpoints' / '2').exists():
    assert processes[1].poll() is None, finish(processes)
    time.sleep(0.02)
  processes[1].kill()
  (status, _, err), _ = finish(processes, timeout=120)
  assert status == 1
  errors = [line for line in err.splitlines() if 'rror' in line]
  assert len(errors) == 1, err
  assert errors[0].startswith('error: process 1 was lost: rerun the command')
  assert 'Traceback' not in err
  for count in (1, 4):
    resumed = shutil.copytree(left, tmp_path / str(count))
    tiny.assert_trees_close(train(resumed, count), alone, 1e-5)


@pytest.mark.slow
def test_processes_with_other_code_end_before_training(tmp_path):
  other = tmp_path / 'other'
  for name in ('nfnets', 'experiments'):
    shutil.copytree(ROOT / name, other / name)
  with open(other / 'nfnets' / 'losses.py', 'a') as file:
    file.write('# changed\n')
  for status, out, err in finish(start(tmp_path, 2, PATIENT, last=other)):
    assert status == 1, out
    lines = [line for line in err.splitlines() if line.startswith('error: ')]
    assert lines == [
      'error: the code (nfnets/) of process [1] differs from that of process 0:'
      ' start every process with the same code, config file and flags'
    ], err
  assert [path.name for path in tmp_path.iterdir()] == ['other']


SRUN = """#!{python}
import os, subprocess, sys
command = sys.argv[2:]  # without --kill-on-bad-exit=1
port, processes = '{port}', []
for index in '01':
  variables = {{
    'SLURM_JOB_ID': port, 'SLURM_NTASKS': '2', 'SLURM_STEP_NUM_TASKS': '2',
    'SLURM_STEP_NODELIST': 'localhost,other', 'SLURM_PROCID': index,
    'SLURM_LOCALID': '0',
  }}
  processes.append(subprocess.Popen(command, env=os.environ | variables))
sys.exit(max(process.wait() for process in processes))
"""


@pytest.mark.slow
def test_two_processes_of_the_script_for_slurm_equal_one(tmp_path, alone):
  srun = tmp_path / 'srun'
  port = random.randrange(20_000, 30_000)
  srun.write_text(SRUN.format(python=sys.executable, port=port))
  srun.chmod(0o755)
  workdir = tmp_path / 'run'
  done = subprocess.run(
    ['bash', 'launch/slurm.sbatch', *OPTIONS, PATIENT, f'--workdir={workdir}'],
    cwd=ROOT,
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': '1',
      'NFNETS_VENV': sys.prefix,
      'PATH': f'{tmp_path}:{os.environ["PATH"]}',
    },
    capture_output=True,
    text=True,
    timeout=400,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert '2 processes' in done.stdout
  tiny.assert_trees_close(parameters(workdir), alone, 1e-5)


@pytest.mark.slow
def test_a_wrong_coordinator_is_an_error_within_a_minute(tmp_path):
  begun = time.monotonic()
  first, second = start(tmp_path, 2)
  first.kill()
  [(status, _, err)] = finish([second], timeout=60)
  assert time.monotonic() - begun < 60
  assert status == 1
  assert err.count('\n') == 1 and '127.0.0.1:' in err, err
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_program_trains_the_same_network_on_any_number_of_devices(tmp_path):
  settings = {
    'model.name': 'nf_resnet50',
    # Smooth: where a ReLU's input is near 0, the last bit of a sum decides
    # whether there is a gradient.
    'model.activation': 'silu',
    'model.width': 0.25,
    'model.group_size': 0,
    'model.depth': '1,2,1,1',
    'model.drop_rate': 0.25,
    'model.stochdepth_rate': 0.25,
    'optimizer.warmup_epochs': 0,
    'train.steps': 20,
    'train.batch_size': 32,
  }

  def train_on(count, accumulation):
    workdir = tmp_path / str(count)
    run = subprocess.run(
      [
        *(sys.executable, '-m', 'nfnets.experiment', f'--workdir={workdir}'),
        '--config=experiments/digits.py',
        f'--config.train.accumulation={accumulation}',
        *(f'--config.{name}={value}' for name, value in settings.items()),
      ],
      cwd=ROOT,
      env=os.environ | DRAWS | {'JAX_NUM_CPU_DEVICES': str(count)},
      capture_output=True,
      text=True,
    )
    assert run.returncode == 0, run.stderr
    folder = workdir / 'checkpoints'
    return checkpoint.read_weights(folder, 20, ema=False).params

  tiny.assert_trees_close(
    train_on(4, 2), train_on(1, 1), helpers.RTOL_REDUCTION
  )
