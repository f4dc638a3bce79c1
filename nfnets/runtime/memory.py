"""Device memory: what a compiled program needs, and what is free.

A CPU's device memory is the machine's, within the limits of this process: its
cgroup (containers, Slurm, systemd) and `ulimit -v`.
"""

import pathlib
import resource
from collections.abc import Iterator
from typing import NamedTuple

import jax
import psutil

_CGROUPS = pathlib.Path('/sys/fs/cgroup')
_OWN_CGROUP = pathlib.Path('/proc/self/cgroup')
# Files with limit, usage, and the part of the usage that the kernel reclaims
# when memory is short: version 2, then version 1.
_V2 = ('memory.max', 'memory.current', 'inactive_file')
_V1 = ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file')


class Free(NamedTuple):
  """Memory that a device has left.

  Attributes:
    size: bytes.
    place: what limits it, such as 'on this machine'.
  """

  size: int
  place: str


def program_size(compiled: jax.stages.Compiled, beside: int = 0) -> int | None:
  """Returns a program's memory on each device, by XLA's count.

  Args:
    compiled: from `jax.jit(...).lower(...).compile()`, or with `jax.pmap`.
    beside: bytes of other arrays on each device while the program runs.

  Returns:
    Bytes for arguments, results, temporaries and other arrays together, donated
    arguments counted once; None if the platform does not report it.
  """
  memory = compiled.memory_analysis()
  if memory is None:
    return None
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes
    + beside
  )


def free() -> Free | None:
  """Returns the memory that each local device has left.

  The least of the local devices; devices of a CPU share the machine's memory
  equally. None if the platform does not report it.
  """
  local = jax.local_devices()
  if local[0].platform == 'cpu':
    least = min(_limits())
    return Free(least.size // len(local), least.place)
  stats = [device.memory_stats() for device in local]
  if not all(stats):
    return None
  sizes = [x['bytes_limit'] - x['bytes_in_use'] for x in stats if x]
  return Free(min(sizes), f'on each {local[0].device_kind}')


def _limits() -> Iterator[Free]:
  """Yields what each limit of a CPU process leaves."""
  yield Free(psutil.virtual_memory().available, 'on this machine')
  for folder, names in _cgroup_folders():
    left = _cgroup_free(folder, *names)
    if left is not None:
      yield Free(left, f'in cgroup {folder}')
  soft, _ = resource.getrlimit(resource.RLIMIT_AS)
  if soft != resource.RLIM_INFINITY:
    used = psutil.Process().memory_info().vms
    yield Free(max(0, soft - used), 'under ulimit -v')


def _cgroup_folders() -> Iterator[tuple[pathlib.Path, tuple[str, str, str]]]:
  """Yields the cgroups that limit this process, from its own to the root's."""
  try:
    lines = _OWN_CGROUP.read_text().splitlines()
  except OSError:  # not Linux
    return
  for line in lines:
    # '0::/path' in version 2, 'number:controllers:/path' in version 1.
    _, controllers, path = line.split(':', 2)
    if not controllers:
      root, names = _CGROUPS, _V2
    elif 'memory' in controllers.split(','):
      root, names = _CGROUPS / 'memory', _V1
    else:
      continue
    folder = root / path.lstrip('/')
    yield from (
      (x, names)
      for x in (folder, *folder.parents)
      if root in x.parents or x == root
    )


def _cgroup_free(
  folder: pathlib.Path, limit: str, usage: str, reclaimable: str
) -> int | None:
  """Returns the bytes that a cgroup has left; None without a limit."""
  try:
    most = (folder / limit).read_text().strip()
    if most == 'max':
      return None
    used = int((folder / usage).read_text())
    stat = (folder / 'memory.stat').read_text().split()
    cached = int(stat[stat.index(reclaimable) + 1])
    return max(0, int(most) - used + cached)
  except (OSError, ValueError):
    return None
