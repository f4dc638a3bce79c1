"""Accelerators that are not there, as targets to compile programs for.

The compilers of TPUs and GPUs are part of their Python packages and need no
device.
"""

import importlib.util
import os
import pathlib
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from nfnets import errors
from nfnets.runtime import memory

# 'h100' or 'h100:8': GPUs of one host.
_GPU = re.compile(r'h100(?::(\d+))?')
# 'v5e:4x4': a slice of TPUs.
_TPU = re.compile(r'\w+:\d+(x\d+)+')
# XLA_PYTHON_CLIENT_MEM_FRACTION, unless the user sets it.
_GPU_FRACTION = 0.75
_H100 = pathlib.Path(__file__).with_name('h100.txtpb')
# Keeps libtpu from looking for TPUs of this machine, from warnings of finding
# none, and from its lock against other processes.
_NO_TPU = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  # Any that libtpu knows; the topology's name decides.
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
  'TPU_MIN_LOG_LEVEL': '3',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


def target_devices(name: str) -> Sequence[jax.Device]:
  """Returns devices to compile for; nothing can run on them.

  Must run before JAX's first use. Afterwards this process has only CPUs.

  Args:
    name: 'h100', 'h100:8' (GPUs of one host), or a slice of TPUs that libtpu
      knows, such as 'v5e:4x4' or 'v6e:2x2'.

  Raises:
    UserError: the name is unknown, or the package with its compiler is not
      installed.
  """
  jax.config.update('jax_platforms', 'cpu')
  if gpus := _GPU.fullmatch(name):
    return _gpus(name, int(gpus[1] or 1))
  if _TPU.fullmatch(name):
    return _tpus(name)
  raise errors.UserError(
    f'--topology={name} is unknown: it must be h100, h100:8 (GPUs of one host)'
    ' or a slice of TPUs such as v5e:4x4'
  )


def compile_for(
  lowered: jax.stages.Lowered, name: str | None
) -> jax.stages.Compiled:
  """Compiles a program for a topology; None: for the devices of this machine.

  Without a device, a GPU's compiler must not time alternatives.
  """
  is_gpu = name is not None and _GPU.fullmatch(name)
  options = {'xla_gpu_autotune_level': 0} if is_gpu else None
  return lowered.compile(compiler_options=options)


def usable_memory(name: str) -> memory.Free | None:
  """Returns the memory of a GPU that JAX uses by default.

  None for TPUs: their compiler refuses programs that do not fit.
  """
  if not _GPU.fullmatch(name):
    return None
  size = int(re.findall(r'device_memory_size: (\d+)', _H100.read_text())[0])
  return memory.Free(
    int(_GPU_FRACTION * size), f'if JAX takes {_GPU_FRACTION:.0%} of an H100'
  )


def _gpus(name: str, count: int) -> Sequence[jax.Device]:
  if not count:
    raise errors.UserError(f'--topology={name}: at least 1 GPU is needed')
  packages = ('jax_cuda12_plugin', 'jax_cuda13_plugin')
  if not any(map(importlib.util.find_spec, packages)):
    raise errors.UserError(
      f'--topology={name} needs the compiler for GPUs: pip install'
      ' "jax[cuda12]"'
    )
  return topologies.get_topology_desc(
    name, 'cuda', target_config=_H100.read_text(), topology=f'1x1x{count}'
  ).devices


def _tpus(name: str) -> Sequence[jax.Device]:
  if importlib.util.find_spec('libtpu') is None:
    raise errors.UserError(
      f'--topology={name} needs the compiler for TPUs: pip install libtpu'
    )
  os.environ |= _NO_TPU
  try:
    return topologies.get_topology_desc(name, 'tpu').devices
  except (RuntimeError, ValueError) as error:
    reason = str(error).partition('\n')[0]
    raise errors.UserError(
      f'--topology={name}: libtpu has no such slice ({reason})'
    ) from error
