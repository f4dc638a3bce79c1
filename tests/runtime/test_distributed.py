"""Which processes connect, with a faked jax.distributed."""

import pytest

from nfnets import errors
from nfnets.runtime import distributed


def test_a_single_process_does_not_connect(monkeypatch):
  for name in ('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE', 'TPU_WORKER_HOSTNAMES'):
    monkeypatch.delenv(name, raising=False)
  calls = []
  monkeypatch.setattr(
    distributed.jax.distributed, 'initialize', lambda *args: calls.append(args)
  )
  distributed.initialize()
  monkeypatch.setenv('SLURM_NTASKS', '1')
  distributed.initialize()
  assert calls == []
  monkeypatch.setenv('SLURM_NTASKS', '4')
  distributed.initialize()
  assert calls == [()]
  distributed.initialize('host:1234', 2, 1)
  assert calls[1] == ('host:1234', 2, 1)


def test_incomplete_arguments_are_refused():
  with pytest.raises(errors.UserError, match='process_id None: give all three'):
    distributed.initialize('host:1', 2)
