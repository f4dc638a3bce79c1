"""Named tolerances, the golden data and what several tests share."""

import json
import pathlib
import re
import sys
import types

import pytest
from jax import stages

# Flags for programs that run once: a third less time for compiling and running.
QUICK_COMPILATION = '--xla_backend_optimization_level=0'

GOLDEN = pathlib.Path(__file__).parent / 'golden'

# Elementwise arithmetic in float32.
RTOL_ELEMENTWISE = 1e-6
# Sums in another order: devices, micro-batches, matrix products.
RTOL_REDUCTION = 1e-5
# Results of another framework or of the published code, as a fraction of the
# logits' standard deviation.
RTOL_FRAMEWORK = 1e-4


def golden() -> dict:
  """Returns the reference outputs (see golden/README.md)."""
  return json.loads((GOLDEN / 'golden.json').read_text())


def timm() -> types.ModuleType:
  """Returns timm, or skips the test if it or PyTorch is missing."""
  pytest.importorskip('torch')
  # Without it a CPU-only torchvision does not import.
  name = 'torchvision._meta_registrations'
  sys.modules.setdefault(name, types.ModuleType(name))
  return pytest.importorskip('timm')


def distinct_kernels(lowered: stages.Lowered) -> set[str]:
  """Compiles a program for CPUs and returns its fused operations.

  Names are removed, so equal operations, which XLA compiles once, are one.
  """
  # The flag that `compilation.set_compiler_flags` sets.
  options = {'xla_disable_hlo_passes': 'cse_barrier_expander'}
  program = lowered.compile(compiler_options=options).as_text()
  bodies = set()
  for computation in program.split('\n\n'):
    header, _, body = computation.partition('\n')
    if 'fused_computation' in header or header.startswith('%wrapped'):
      body = re.sub(r', (metadata|frontend_attributes)=\{[^}]*\}', '', body)
      bodies.add(re.sub(r'%[\w.\-]+', '%', body))
  return bodies
