"""Runs the program as users do, in processes of its own."""

import json
import os
import pathlib
import random
import subprocess
import sys
import time
from typing import NamedTuple

from nfnets.training import manifest
from tests.experiment import tiny

ROOT = pathlib.Path(__file__).parents[2]
# A complete run of twelve steps on the digits, saved every four steps.
OPTIONS = (
  '--config=experiments/digits.py',
  *tiny.NETWORK,
  *tiny.TWELVE_STEPS,
  '--config.eval.every_steps=4',
  '--config.checkpoint.every_steps=4',
)
TRAIN = ('nfnets.experiment', *OPTIONS)


# What the tests of this process have started, so that none outlives its test.
started: list[subprocess.Popen] = []


class End(NamedTuple):
  """How a process ended."""

  status: int
  out: str
  err: str


def start(module, *arguments, devices=1, **options):
  """Starts `python -m MODULE ARGUMENTS` with its output in pipes."""
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': str(devices),
    'PYTHONPATH': str(ROOT),
    **options.pop('env', {}),
  }
  defaults = {
    'stdout': subprocess.PIPE,
    'stderr': subprocess.PIPE,
    'cwd': ROOT,
  }
  process = subprocess.Popen(
    [sys.executable, '-m', module, *arguments],
    env=environment,
    stdin=subprocess.DEVNULL,
    text=True,
    **defaults | options,
  )
  started.append(process)
  return process


def finish(process, timeout=600):
  out, err = process.communicate(timeout=timeout)
  return End(process.returncode, out, err)


def run(module, *arguments, **options):
  return finish(start(module, *arguments, **options))


def broken(fault, *arguments, **options):
  """Runs the training program with a fault built in (`broken.py`)."""
  return run('tests.faults.broken', fault, *arguments, **options)


def start_several(workdir, *own, arguments=TRAIN):
  """Starts the processes of one run, each with its own further arguments."""
  port = random.randrange(20_000, 30_000)
  variables = {
    'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{port}',
    'JAX_NUM_PROCESSES': str(len(own)),
  }
  # The processes may start far apart on a busy machine.
  shared = (f'--workdir={workdir}', '--connect_seconds=300')
  return [
    start(*arguments, *shared, f'--process_id={i}', *options, env=variables)
    for i, options in enumerate(own)
  ]


def wait_for(condition, process):
  """Waits until `condition()` holds while the process runs."""
  deadline = time.monotonic() + 600
  while not condition():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.01)


def succeed(end):
  assert end.status == 0, end
  return end


def assert_one_line(end, *expected, status=1):
  """Checks that a run ended with one line about an error, and no traceback."""
  assert end.status == status, end
  lines = [line for line in end.err.splitlines() if 'rror' in line]
  assert len(lines) == 1, end.err
  assert 'Traceback' not in end.err
  for text in expected:
    assert text in lines[0], lines[0]


def checkpoints(workdir):
  """Returns the steps that are saved."""
  folder = pathlib.Path(workdir) / 'checkpoints'
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal())


def state(workdir, step=12):
  """Returns a digest of every array: parameters, momentum, averages, step."""
  path = workdir / 'checkpoints' / str(step) / 'manifest' / 'metadata'
  leaves = manifest.parse(path.read_bytes())['leaves']
  for root in ('params/', 'ema_params/', 'opt_state/', 'step'):
    assert any(name.startswith(root) for name in leaves)
  return leaves


def metrics(workdir, *names):
  """Returns {name: {step: value}}."""
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return {
    name: {row['step']: row[name] for row in rows if name in row}
    for name in names
  }


def assert_same_run(one, other):
  """Checks that two runs ended with the same bits and reported the same."""
  assert state(one) == state(other)
  names = ('train/loss', 'eval/top1', 'eval/ema_top1')
  assert metrics(one, *names) == metrics(other, *names)
