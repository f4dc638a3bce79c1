"""Runs in processes of their own that are killed or signaled."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import pytest

from nfnets.training import checkpoint
from tests import helpers
from tests.training import tiny, tiny_run

# As in conftest, since the order of sums depends on the number of devices, and
# the last bits on the compiler's flags.
ENVIRONMENT = {
  'XLA_FLAGS': helpers.QUICK_COMPILATION,
  **os.environ,
  'JAX_NUM_CPU_DEVICES': '4',
  'JAX_PLATFORMS': 'cpu',
}


def start(workdir, *options, devices=4):
  command = [sys.executable, '-m', 'tests.training.tiny_run', str(workdir)]
  return subprocess.Popen(
    [*command, *options],
    env={**ENVIRONMENT, 'JAX_NUM_CPU_DEVICES': str(devices)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finish(process, timeout=300):
  try:
    output, _ = process.communicate(timeout=timeout)
  except subprocess.TimeoutExpired:
    process.kill()
    output, _ = process.communicate()
    pytest.fail(f'still running after {timeout} s: {output}')
  return process.returncode, output


def final_state(workdir, program):
  reader = checkpoint.Checkpointer(workdir / 'checkpoints')
  restored = reader.restore_latest(program.initial)
  reader.close()
  return restored


def steps_of_lines(workdir):
  text = (workdir / 'metrics.jsonl').read_text()
  return [json.loads(line)['step'] for line in text.splitlines()]


def test_killed_in_a_step_and_in_a_save_equals_not_killed(tmp_path):
  program = tiny_run.Program()
  expected = jax.device_get(program.run(tmp_path / 'whole').state)
  workdir = tmp_path / 'killed'
  # Checkpoint 4 is on disk; 8 is written but not renamed yet.
  status, output = finish(start(workdir, '--kill=save:8'))
  assert status == -signal.SIGKILL, output
  left = sorted(p.name for p in (workdir / 'checkpoints').iterdir())
  assert '4' in left and '8' not in left and len(left) == 2, left
  status, output = finish(start(workdir, '--kill=batch:6'))
  assert status == -signal.SIGKILL, output
  outcome = program.run(workdir)
  tiny.assert_trees_equal(outcome.state, expected)
  assert not list((workdir / 'checkpoints').glob('*tmp*'))
  assert steps_of_lines(workdir) == steps_of_lines(tmp_path / 'whole')


@pytest.mark.slow
def test_killed_at_random_moments_equals_not_killed(tmp_path):
  rng = random.Random(0)
  options = ('--steps=40', '--batch_seconds=0.1')
  begun = time.monotonic()
  status, output = finish(start(tmp_path / 'whole', *options))
  whole = time.monotonic() - begun
  assert status == 0, output
  workdir = tmp_path / 'killed'
  kills, status = 0, None
  while status != 0:
    process = start(workdir, *options)
    # Timed from the start of Python. The first kill comes well before the end,
    # even if the machine is faster now; later ones wait longer, in case it is
    # slower.
    wait = rng.uniform(0, 0.8 + kills / 10 if kills else 0.4) * whole
    try:
      status, output = process.wait(wait), process.stdout.read()
      assert status == 0, output
    except subprocess.TimeoutExpired:
      process.kill()
      status, output = finish(process)
      # It may have ended just before.
      assert status in (0, -signal.SIGKILL), output
      kills += status != 0
    assert kills < 40, f'not finished; a whole run takes {whole:.0f} s'
  assert kills > 0
  program = tiny_run.Program()
  restored = final_state(workdir, program)
  expected = final_state(tmp_path / 'whole', program)
  tiny.assert_trees_equal(restored.state, expected.state)
  assert restored.metrics == expected.metrics
  assert steps_of_lines(workdir) == steps_of_lines(tmp_path / 'whole')


def start_two(workdir, *options):
  """Starts two processes of one run, each with its own options."""
  port = str(random.randrange(20_000, 60_000))
  several = ['--processes=2', f'--port={port}']
  return [
    start(workdir, *several, f'--process={i}', *own, devices=1)
    for i, own in enumerate(options)
  ]


def finish_all(processes):
  try:
    return [finish(process) for process in processes]
  finally:
    for process in processes:
      process.kill()


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_two_processes_equal_one_with_two_devices(tmp_path, number):
  # One process gets the signal; both stop at the same step. The runtime checks
  # for signals about once a second, so the steps must take longer.
  slow = '--batch_seconds=1'
  ends = finish_all(
    start_two(tmp_path / 'two', [slow], [slow, f'--signal={number}:5'])
  )
  assert [status for status, _ in ends] == [143, 128 + number], ends
  stopped = {output.split('ended at ')[1] for _, output in ends}
  assert len(stopped) == 1, ends
  ends = finish_all(start_two(tmp_path / 'two', [], []))
  assert [status for status, _ in ends] == [0, 0], ends
  status, output = finish(start(tmp_path / 'one', devices=2))
  assert status == 0, output
  two, one = (
    final_state(tmp_path / name, tiny_run.Program()) for name in ('two', 'one')
  )
  assert two.step == one.step == tiny_run.STEPS
  tiny.assert_trees_close(two.state.params, one.state.params, 1e-5)
  assert two.metrics['eval/count'] == one.metrics['eval/count'] == 32
  assert steps_of_lines(tmp_path / 'two') == steps_of_lines(tmp_path / 'one')
