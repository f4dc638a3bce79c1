"""Which processes connect, and what ends them, with a faked jax.distributed."""

import os
import random
import subprocess
import sys

import jax
import pytest

from nfnets import errors
from nfnets.runtime import distributed, launchers


class Exited(BaseException):
  """Stands for the end of the process."""


@pytest.fixture(name='calls')
def recorded_calls(monkeypatch):
  """Records the calls that connect, instead of making them."""
  calls = []

  def initialize(*args, **options):
    method = options.pop('cluster_detection_method')
    assert max(options.values()) < 120
    calls.append(('jax', *args, method))

  monkeypatch.setattr(jax.distributed, 'initialize', initialize)
  monkeypatch.setattr(
    distributed.rendezvous, 'meet', lambda *args: calls.append(args)
  )
  return calls


def find(monkeypatch, *values):
  found = launchers.Processes(*values) if values else None
  monkeypatch.setattr(launchers, 'find', lambda *_: found)


def test_a_single_process_does_not_connect(monkeypatch, calls):
  find(monkeypatch)
  distributed.initialize()
  assert calls == []


def test_processes_meet_before_jax_connects_them(monkeypatch, calls):
  find(monkeypatch, 'host:1234', 2, 1, 'slurm')
  distributed.initialize(connect_seconds=7)
  assert calls == [
    ('host:1234', 2, 1, 7),
    ('jax', 'host:1234', 2, 1, 'slurm'),
  ]


def test_what_only_jax_can_find_is_left_to_it(monkeypatch, calls):
  find(monkeypatch, None, None, None, None)
  distributed.initialize()
  assert calls == [('jax', None, None, None, None)]


def test_the_coordinator_is_reached_without_proxies(monkeypatch, calls):
  monkeypatch.setenv('no_proxy', 'localhost')
  monkeypatch.setenv('no_grpc_proxy', '')
  find(monkeypatch, 'host:1234', 2, 1, 'deactivate')
  distributed.initialize()
  assert os.environ['no_grpc_proxy'] == 'localhost,host'


def test_a_malformed_address_is_refused(monkeypatch, calls):
  find(monkeypatch, 'host', 2, 1, 'deactivate')
  with pytest.raises(errors.UserError, match="'host' must have the form"):
    distributed.initialize()
  assert calls == []


@pytest.mark.parametrize(
  'message, count, ends',
  [
    ('UNKNOWN: Gloo all-reduce failed:\nConnection closed by peer', 2, True),
    ('UNAVAILABLE: socket closed', 2, True),
    ('INTERNAL: NCCL operation failed: remote process exited', 2, True),
    ('RESOURCE_EXHAUSTED: Out of memory', 2, False),
    ('UNKNOWN: Gloo all-reduce failed', 1, False),
  ],
)
def test_a_lost_process_ends_this_one_in_one_line(
  monkeypatch, capsys, message, count, ends
):
  def leave(status):
    assert status == 1
    raise Exited

  monkeypatch.setattr(jax, 'process_count', lambda: count)
  monkeypatch.setattr(distributed.os, '_exit', leave)
  expected = Exited if ends else jax.errors.JaxRuntimeError
  with pytest.raises(expected), distributed.reporting_loss():
    raise jax.errors.JaxRuntimeError(message)
  error = capsys.readouterr().err
  if ends:
    text = message.replace('\n', ' ')
    assert error.startswith(f'error: lost another process of this run ({text})')
    assert error.count('\n') == 1
  else:
    assert not error


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
  distributed.initialize()
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
