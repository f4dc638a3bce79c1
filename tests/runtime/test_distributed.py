"""Which processes connect, and what ends them, with a faked jax.distributed."""

import os
import random
import subprocess
import sys
import time

import jax
import pytest

from nfnets import errors
from nfnets.runtime import distributed, launchers


class Exited(BaseException):
  """Stands for the end of the process."""


@pytest.fixture(name='calls')
def recorded_calls(monkeypatch):
  """Records the calls that connect and end, instead of making them."""
  calls = []

  def initialize(*args, **options):
    method = options.pop('cluster_detection_method')
    assert max(options.values()) < 120
    calls.append(('jax', *args, method))

  def meet(*args):
    calls.append(args)
    return {}

  def leave(status):
    calls.append(status)
    raise Exited

  monkeypatch.setattr(jax.distributed, 'initialize', initialize)
  monkeypatch.setattr(distributed.rendezvous, 'meet', meet)
  monkeypatch.setattr(distributed.os, '_exit', leave)
  return calls


def find(monkeypatch, *values):
  found = launchers.Processes(*values) if values else None
  monkeypatch.setattr(launchers, 'find', lambda *_: found)


def test_a_single_process_does_not_connect(monkeypatch, calls):
  find(monkeypatch)
  with distributed.connected():
    pass
  with pytest.raises(errors.UserError), distributed.connected():
    raise errors.UserError('as usual')
  assert calls == []


def test_processes_meet_before_jax_connects_them(monkeypatch, calls):
  find(monkeypatch, 'host:1234', 2, 1, 'slurm')
  with distributed.connected(connect_seconds=7):
    pass
  assert calls == [
    ('host:1234', 2, 1, 7),
    ('jax', 'host:1234', 2, 1, 'slurm'),
  ]


def test_what_only_jax_can_find_is_left_to_it(monkeypatch, calls):
  find(monkeypatch, None, None, None, None)
  with distributed.connected():
    pass
  assert calls == [('jax', None, None, None, None)]


def test_the_coordinator_is_reached_without_proxies(monkeypatch, calls):
  monkeypatch.setenv('no_proxy', 'localhost')
  monkeypatch.setenv('no_grpc_proxy', '')
  find(monkeypatch, 'host:1234', 2, 1, 'deactivate')
  with distributed.connected():
    assert os.environ['no_grpc_proxy'] == 'localhost,host'


def test_a_malformed_address_is_refused(monkeypatch, calls):
  find(monkeypatch, 'host', 2, 1, 'deactivate')
  with pytest.raises(errors.UserError, match="'host' must have the form"):
    with distributed.connected():
      pass
  assert calls == []


LOST = 'error: another process was lost ({}): rerun the command on every host'


@pytest.mark.parametrize(
  'error, status, printed',
  [
    (errors.UserError('no data'), 1, 'error: no data\n'),
    (KeyboardInterrupt(), 130, 'interrupted\n'),
    (
      ValueError('UNKNOWN: Gloo failed:\nclosed by peer'),
      1,
      LOST.format('UNKNOWN: Gloo failed: closed by peer'),
    ),
    (
      jax.errors.JaxRuntimeError('UNAVAILABLE: Socket closed'),
      1,
      LOST.format('UNAVAILABLE: Socket closed'),
    ),
    (
      jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory'),
      1,
      'Traceback (most recent call last)',
    ),
  ],
)
def test_one_of_several_processes_ends_without_waiting(
  monkeypatch, capsys, calls, error, status, printed
):
  find(monkeypatch, 'host:1', 2, 0, 'deactivate')
  with pytest.raises(Exited), distributed.connected():
    raise error
  assert calls[-1] == status
  text = capsys.readouterr().err
  assert text.startswith(printed)
  assert text.count('\n') == 1 or 'Traceback' in printed


def test_the_lost_process_is_named(monkeypatch, capsys, calls):
  find(monkeypatch, 'host:1', 2, 0, 'deactivate')
  monkeypatch.setattr(
    distributed.watch.Watch, 'reason', lambda *_, **__: 'process 1 was lost'
  )
  with pytest.raises(Exited), distributed.connected():
    raise jax.errors.JaxRuntimeError('INTERNAL: NCCL operation failed')
  assert capsys.readouterr().err == 'error: process 1 was lost\n'


# What each launcher sets in process {i} of two.
LAUNCHERS = {
  'variables': {
    'JAX_COORDINATOR_ADDRESS': 'localhost:{port}',
    'JAX_NUM_PROCESSES': '2',
    'JAX_PROCESS_ID': '{i}',
  },
  'slurm': {
    'SLURM_JOB_ID': '{port}',
    'SLURM_NTASKS': '2',
    'SLURM_PROCID': '{i}',
    'SLURM_LOCALID': '0',
    'SLURM_STEP_NODELIST': 'localhost,other',
    'SLURM_STEP_NUM_TASKS': '2',
  },
  'ompi': {
    'OMPI_MCA_orte_hnp_uri': '{port}.0;tcp://127.0.0.1:1',
    'OMPI_COMM_WORLD_SIZE': '2',
    'OMPI_COMM_WORLD_RANK': '{i}',
    'OMPI_COMM_WORLD_LOCAL_RANK': '0',
    'JAX_COORDINATOR_PORT': '{port}',
  },
  'skypilot': {
    'SKYPILOT_NUM_NODES': '2',
    'SKYPILOT_NODE_RANK': '{i}',
    'SKYPILOT_NODE_IPS': '127.0.0.1\n127.0.0.2',
    'JAX_COORDINATOR_PORT': '{port}',
  },
}
PROGRAM = """
from nfnets import cli
from nfnets.runtime import distributed
def main():
  with distributed.connected():
    import jax
    print(jax.process_index(), jax.process_count(), len(jax.local_devices()))
cli.run(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize('launcher', LAUNCHERS)
@pytest.mark.parametrize('proxy', ['', 'http:' + '//127.0.0.1:9'])
def test_two_processes_of_a_launcher_connect(launcher, proxy):
  port = random.randrange(20_000, 60_000)
  processes = []
  for i in range(2):
    variables = {
      name: value.format(i=i, port=port)
      for name, value in LAUNCHERS[launcher].items()
    }
    processes.append(
      subprocess.Popen(
        [sys.executable, '-c', PROGRAM],
        env={
          **os.environ,
          'JAX_PLATFORMS': 'cpu',
          'JAX_NUM_CPU_DEVICES': '1',
          'http_proxy': proxy,
          **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
    )
  for i, process in enumerate(processes):
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out.splitlines()[-1:]) == (0, [f'{i} 2 1']), err


WAITING = """
import sys, time
from nfnets import cli, errors
from nfnets.runtime import distributed
def main():
  index, victim, port = map(int, sys.argv[1:])
  with distributed.connected(f'127.0.0.1:{port}', 2, index, 120):
    if index == victim:
      raise errors.UserError('no data here')
    time.sleep(300)  # as in a collective of an accelerator
cli.run(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize('victim', [0, 1])
def test_an_error_of_one_process_ends_another_that_waits(victim):
  port = str(random.randrange(20_000, 60_000))
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', WAITING, str(index), str(victim), port],
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]
  begun = time.monotonic()
  ends = [
    (process.communicate(timeout=120)[1], process.returncode)
    for process in processes
  ]
  assert time.monotonic() - begun < 120
  assert ends[victim] == ('error: no data here\n', 1)
  line = f'error: process {victim} failed: no data here\n'
  assert ends[1 - victim] == (line, 1)
