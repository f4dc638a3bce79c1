"""Connects the processes of one run, through jax.distributed."""

import os

import jax

from nfnets import errors


def initialize(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Connects the processes of one run; does nothing for a single process.

  Must come before any other use of JAX. Slurm, Open MPI and Cloud TPU pods are
  detected; elsewhere give all three arguments. On GPUs, JAX assigns one device
  to each process of Slurm and Open MPI; for one process per machine set, for
  example, JAX_LOCAL_DEVICE_IDS=0,1,2,3.

  Args:
    coordinator: address:port of process 0.
    num_processes: number of processes in the run.
    process_id: index of this process, from 0.

  Raises:
    UserError: only some of the arguments are given.
  """
  given = (coordinator, num_processes, process_id)
  if all(value is None for value in given):
    if _in_cluster():
      jax.distributed.initialize()
    return
  if None in given:
    raise errors.UserError(
      f'coordinator {coordinator}, num_processes {num_processes}, process_id '
      f'{process_id}: give all three, or none for a single process'
    )
  jax.distributed.initialize(coordinator, num_processes, process_id)


def _in_cluster() -> bool:
  """Returns whether the environment is set up for several processes."""
  counts = ('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE')
  hosts = os.environ.get('TPU_WORKER_HOSTNAMES', '')
  return (
    any(int(os.environ.get(name, 1)) > 1 for name in counts) or ',' in hosts
  )
