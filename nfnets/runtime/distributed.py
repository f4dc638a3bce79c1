"""Joining the processes of one run, through jax.distributed."""

import os

import jax

from nfnets import errors


def initialize(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Joins the processes of one run; does nothing for a single process.

  Must come before anything else that uses JAX. Slurm, Open MPI and Cloud TPU
  pods are recognised; elsewhere name all three arguments. On GPUs JAX gives
  each process of Slurm and Open MPI one device; for one process per machine
  set JAX_LOCAL_DEVICE_IDS=0,1,2,3 or so.

  Args:
    coordinator: address:port of process 0.
    num_processes: of the whole run.
    process_id: of this one, from 0.

  Raises:
    UserError: some of the arguments are given and some are not.
  """
  given = (coordinator, num_processes, process_id)
  if all(value is None for value in given):
    if _in_cluster():
      jax.distributed.initialize()
    return
  if None in given:
    raise errors.UserError(
      f'coordinator {coordinator}, num_processes {num_processes}, process_id '
      f'{process_id}: give all three, or none on one machine'
    )
  jax.distributed.initialize(coordinator, num_processes, process_id)


def _in_cluster() -> bool:
  """Whether the environment was set up for several processes."""
  counts = ('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE')
  hosts = os.environ.get('TPU_WORKER_HOSTNAMES', '')
  return (
    any(int(os.environ.get(name, 1)) > 1 for name in counts) or ',' in hosts
  )
