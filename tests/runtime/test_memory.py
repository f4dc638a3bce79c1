"""Memory of programs, and what machine, cgroup, ulimit and devices leave."""

import resource
import types

import jax
import jax.numpy as jnp
import psutil
import pytest

from nfnets.runtime import memory

GIB = 2**30


def test_a_donated_argument_counts_once():
  x = jax.ShapeDtypeStruct((1000,), jnp.float32)

  def size(**options):
    return memory.program_size(
      jax.jit(lambda x: x + 1, **options).lower(x).compile()
    )

  assert size() - size(donate_argnums=0) == pytest.approx(4000, abs=64)
  assert 4000 <= size(donate_argnums=0) < 4100


@pytest.fixture
def machine(monkeypatch, tmp_path):
  """A machine with 16 GiB available, no cgroup and no ulimit."""
  monkeypatch.setattr(
    psutil, 'virtual_memory', lambda: types.SimpleNamespace(available=16 * GIB)
  )
  monkeypatch.setattr(memory, '_CGROUPS', tmp_path)
  monkeypatch.setattr(memory, '_OWN_CGROUP', tmp_path / 'own')
  monkeypatch.setattr(
    resource, 'getrlimit', lambda _: (resource.RLIM_INFINITY,) * 2
  )
  return tmp_path


def write(folder, **contents):
  folder.mkdir(parents=True, exist_ok=True)
  for name, value in contents.items():
    (folder / name.replace('__', '.')).write_text(f'{value}\n')


def test_cpu_devices_share_the_machine(machine):
  assert memory.free() == (4 * GIB, 'on this machine')


def test_the_tightest_cgroup_of_version_2_counts(machine):
  write(machine, own='0::/user/job/step')
  stat = f'anon 5\ninactive_file {GIB}'
  for folder, limit in (('user/job', 6 * GIB), ('user/job/step', 'max')):
    write(
      machine / folder,
      memory__max=limit,
      memory__current=3 * GIB,
      memory__stat=stat,
    )
  # 6 - 3 GiB, and 1 GiB of cached files that can be dropped.
  assert memory.free() == (GIB, f'in cgroup {machine}/user/job')


def test_a_cgroup_of_version_1_counts(machine):
  write(machine, own='5:cpu:/x\n4:cpuset,memory:/docker/abc\n0::/')
  # In a container the own path is missing and the root is the container's.
  write(
    machine / 'memory',
    memory__limit_in_bytes=2 * GIB,
    memory__usage_in_bytes=3 * GIB,
    memory__stat='total_inactive_file 0',
  )
  assert memory.free() == (0, f'in cgroup {machine}/memory')


def test_ulimit_counts(machine, monkeypatch):
  used = psutil.Process().memory_info().vms
  monkeypatch.setattr(resource, 'getrlimit', lambda _: (used + 8 * GIB, -1))
  free = memory.free()
  assert free.place == 'under ulimit -v'
  assert free.size == pytest.approx(2 * GIB, rel=0.1)


@pytest.mark.parametrize(
  'stats, expected',
  [
    ({'bytes_limit': 60, 'bytes_in_use': 25}, (35, 'on each A100')),
    (None, None),
  ],
)
def test_accelerators_report_their_own_memory(monkeypatch, stats, expected):
  plenty = {'bytes_limit': 90, 'bytes_in_use': 0}

  def device(stats):
    return types.SimpleNamespace(
      platform='gpu', device_kind='A100', memory_stats=lambda: stats
    )

  monkeypatch.setattr(
    jax, 'local_devices', lambda: [device(plenty), device(stats)]
  )
  assert memory.free() == expected
