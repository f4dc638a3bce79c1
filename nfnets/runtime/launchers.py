"""Finds the processes of a run in flags and in what a launcher has set."""

import contextlib
import dataclasses
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TypeAlias

from nfnets import errors

_FLAGS = ('--coordinator', '--num_processes', '--process_id')
_REMEDY = (
  f'give {", ".join(_FLAGS)} to each process, or --num_processes=1 to train on'
  ' this host alone'
)
# Variables in which other launchers store the number of processes.
_COUNTS = ('OMPI_COMM_WORLD_SIZE', 'PMI_SIZE', 'SLURM_STEP_NUM_TASKS')
# JAX's names of the launchers that number the processes of a machine. On GPUs,
# JAX then assigns one device to each process.
_NUMBERING = ('slurm', 'ompi')
_PORT = 8476

# A class that JAX detects a launcher with (`ClusterEnv`); private, so untyped.
_Launcher: TypeAlias = Any
_Given: TypeAlias = tuple[str | None, int | None, int | None]


@dataclasses.dataclass(frozen=True)
class Processes:
  """The processes of a run, as `jax.distributed.initialize` takes them.

  Attributes:
    coordinator: address:port of process 0; None if only JAX can find it.
    count: number of processes; None if only JAX can find it.
    index: index of this process, from 0; None if only JAX can find it.
    method: `cluster_detection_method`, by which JAX finds what is None and
      assigns devices to this process.
  """

  coordinator: str | None
  count: int | None
  index: int | None
  method: str | None


class _SkyPilot:
  """Reads SkyPilot's variables, with the methods of JAX's `ClusterEnv`."""

  name = 'skypilot'

  @staticmethod
  def is_env_present() -> bool:
    return int(os.environ.get('SKYPILOT_NUM_NODES', 1)) > 1

  @staticmethod
  def get_coordinator_address(_: int, port: str | None) -> str:
    return f'{os.environ["SKYPILOT_NODE_IPS"].split()[0]}:{port or _PORT}'

  @staticmethod
  def get_process_count() -> int:
    return int(os.environ['SKYPILOT_NUM_NODES'])

  @staticmethod
  def get_process_id() -> int:
    return int(os.environ['SKYPILOT_NODE_RANK'])


class _Unlisted:
  """Replaces all detectors if a release of JAX has moved them."""

  name = None

  @staticmethod
  def is_env_present() -> bool:
    return _sign_of_several() is not None


def find(
  coordinator: str | None,
  num_processes: int | None,
  process_id: int | None,
  timeout: int,
) -> Processes | None:
  """Finds the processes of this run.

  Arguments take precedence over JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
  JAX_PROCESS_ID, and these over a launcher's values. Launchers are those that
  JAX recognizes, and SkyPilot. Only JAX contacts anything: the metadata server
  on a TPU VM, and the API server in an Indexed Job of Kubernetes.

  Args:
    coordinator: address:port of process 0.
    num_processes: number of processes in the run.
    process_id: index of this process, from 0.
    timeout: seconds that JAX may wait for the coordinator's name to resolve.

  Returns:
    The processes, or None for a single one.

  Raises:
    UserError: a value is missing or invalid, or a launcher started several
      processes that cannot be connected.
  """
  given = (
    coordinator or os.environ.get('JAX_COORDINATOR_ADDRESS') or None,
    _number('JAX_NUM_PROCESSES', num_processes),
    _number('JAX_PROCESS_ID', process_id),
  )
  if given[1] == 1:
    return None
  launcher = _detect(numbering_only=None not in given)
  if launcher is None and None in given:
    _check_alone(given)
    return None
  address, count, index = _complete(launcher, given, timeout)
  if count == 1:
    return None
  if count is not None and index is not None and not 0 <= index < count:
    raise errors.UserError(
      f'process {index} of {count}: process ids are 0 to {count - 1}'
    )
  name = getattr(launcher, 'name', 'deactivate')
  method = name if name in (None, *_NUMBERING) else 'deactivate'
  return Processes(address, count, index, method)


def _number(variable: str, flag: int | None) -> int | None:
  """Returns the value of a flag, or else of its variable."""
  text = os.environ.get(variable)
  if flag is not None or not text:
    return flag
  try:
    return int(text)
  except ValueError:
    raise errors.UserError(
      f'{variable} is {text!r}: it must be a whole number'
    ) from None


def _detect(numbering_only: bool) -> _Launcher | None:
  """Returns the launcher that started this process, or None."""
  for launcher in _launchers():
    if numbering_only and launcher.name not in _NUMBERING:
      continue
    with _reporting(launcher):
      if launcher.is_env_present() and not _lacks_srun(launcher):
        return launcher
  return None


def _launchers() -> list[_Launcher]:
  """Returns the launchers to look for, in the order of precedence.

  TPU pods come first: there only JAX knows the order of the hosts. SkyPilot
  comes before what it starts processes with (Slurm, Kubernetes), since its
  processes have all devices of their machine.
  """
  try:
    from jax._src import clusters

    detectors = clusters.ClusterEnv._cluster_types
    known = [x for x in detectors if not x.opt_in_only_method]
  except (ImportError, AttributeError):
    return [_SkyPilot, _Unlisted]
  tpus = [x for x in known if 'tpu' in x.name]
  others = [x for x in known if 'tpu' not in x.name]
  if _is_one_tpu_host():
    tpus = []
  if 'JOB_COMPLETION_INDEX' not in os.environ:
    # Any other pod trains alone; JAX would ask the API server.
    others = [x for x in others if x.__name__ != 'K8sCluster']
  return [*tpus, _SkyPilot, *others]


def _is_one_tpu_host() -> bool:
  """Returns whether variables show a single TPU host, as on Colab and Kaggle.

  JAX would look for the metadata server there, or try to resolve 'local'.
  """
  several = ('MEGASCALE_NUM_SLICES', 'TPU_PROCESS_ADDRESSES_PATH')
  hosts = _tpu_hosts()
  return (
    hosts is not None and ',' not in hosts and not set(several) & {*os.environ}
  )


def _tpu_hosts() -> str | None:
  return os.environ.get(
    'TPU_PROCESS_ADDRESSES', os.environ.get('TPU_WORKER_HOSTNAMES')
  )


def _lacks_srun(launcher: _Launcher) -> bool:
  """Returns whether this is the one process of Slurm's interactive step.

  The shell of salloc may be such a step; SLURM_NTASKS counts the allocation.
  """
  return launcher.name == 'slurm' and _count('SLURM_STEP_NUM_TASKS', 2) == 1


def _complete(
  launcher: _Launcher | None, given: _Given, timeout: int
) -> _Given:
  """Adds the launcher's values to those that are given."""
  address, count, index = given
  if launcher in (None, _Unlisted):
    return given
  with _reporting(launcher):
    if count is None:
      count = launcher.get_process_count()
    if count == 1:
      return address, count, index
    if index is None:
      index = launcher.get_process_id()
    if address is None:
      port = os.environ.get('JAX_COORDINATOR_PORT')
      address = launcher.get_coordinator_address(timeout, port)
  return address, count, index


@contextlib.contextmanager
def _reporting(launcher: _Launcher) -> Iterator[None]:
  """Turns any error of JAX's detection into a UserError, warnings into none."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      yield
  except Exception as error:  # of the clients of its metadata and API servers
    reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
    raise errors.UserError(
      f'the processes of {launcher.__name__.strip("_")} were not found'
      f' ({reason}): {_REMEDY}'
    ) from error


def _check_alone(given: _Given) -> None:
  """Checks that nothing indicates several processes.

  A Slurm allocation in which srun was not used only causes a note.

  Raises:
    UserError: a launcher or the user started several processes.
  """
  missing = [
    flag for flag, value in zip(_FLAGS, given, strict=True) if value is None
  ]
  if len(missing) < len(_FLAGS):
    raise errors.UserError(
      f'{", ".join(missing)} missing: {", ".join(_FLAGS)} (or'
      ' JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID) are needed'
      ' together, or none for a single process'
    )
  if sign := _sign_of_several():
    raise errors.UserError(
      f'{sign}={os.environ[sign]} shows that there are other processes, which'
      f' this JAX cannot find: {_REMEDY}'
    )
  tasks = max(_count('SLURM_NTASKS'), _count('SLURM_JOB_NUM_NODES'))
  if tasks > 1:
    print(
      f'note: Slurm allocated {tasks} tasks, but srun did not start this'
      ' process: it trains alone. Type srun before the command to use them all',
      file=sys.stderr,
    )


def _sign_of_several() -> str | None:
  """Returns a variable that indicates several processes, or None."""
  for name in _COUNTS:
    if _count(name) > 1:
      return name
  for name in ('TPU_PROCESS_ADDRESSES', 'TPU_WORKER_HOSTNAMES'):
    if ',' in os.environ.get(name, ''):
      return name
  index = 'JOB_COMPLETION_INDEX'
  in_kubernetes = 'KUBERNETES_SERVICE_HOST' in os.environ
  return index if in_kubernetes and index in os.environ else None


def _count(variable: str, default: int = 1) -> int:
  """Returns the number in a variable; the default if there is none."""
  text = os.environ.get(variable, '')
  return int(text) if text.isdecimal() else default
