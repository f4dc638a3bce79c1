"""Names of topologies; compiling for them needs their compilers."""

import importlib.util
import subprocess
import sys

import jax
import pytest

from nfnets import errors
from nfnets.runtime import topology

PROGRAM = """
import sys
import jax, jax.numpy as jnp
from nfnets.runtime import memory, topology
devices = topology.target_devices(sys.argv[1])
program = jax.pmap(lambda x: jax.lax.psum(x @ x, 'i'), 'i', devices=devices)
lowered = program.lower(jnp.ones((len(devices), 64, 64)))
compiled = topology.compile_for(lowered, sys.argv[1])
print(len(devices), memory.program_size(compiled) >= 2 * 4 * 64 * 64)
"""


@pytest.mark.parametrize(
  'name', ['', 'b200', 'h100:', 'v5e', 'v5e:4', 'h100x2']
)
def test_unknown_names_are_refused(name):
  with pytest.raises(errors.UserError, match=f'--topology={name} is unknown'):
    topology.target_devices(name)


def test_a_missing_compiler_is_named(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(errors.UserError, match='pip install libtpu'):
    topology.target_devices('v5e:4x4')
  with pytest.raises(errors.UserError, match='pip install "jax.cuda12."'):
    topology.target_devices('h100')


def test_gpus_leave_a_part_of_their_memory():
  free = topology.usable_memory('h100:8')
  assert free.size == int(0.75 * 84942979072)
  assert topology.usable_memory('v5e:4x4') is None


def test_the_devices_of_this_machine_need_no_options():
  lowered = jax.jit(lambda x: x + 1).lower(1.0)
  assert topology.compile_for(lowered, None)(1.0) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, package, count',
  [
    ('v5e:4x4', 'libtpu', 16),
    ('v6e:1x1', 'libtpu', 1),
    ('h100:8', 'jax_cuda12_plugin', 8),
  ],
)
def test_programs_compile_for_devices_that_are_not_there(name, package, count):
  pytest.importorskip(package)
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, name],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.stdout.split() == [str(count), 'True'], done.stderr
