"""Tolerances, named once, and what several tests share."""

import json
import pathlib
import re

from jax import stages

GOLDEN = pathlib.Path(__file__).parent / 'golden'

# Elementwise arithmetic in float32.
RTOL_ELEMENTWISE = 1e-6
# Sums whose order may change (devices, micro-batches, matrix products).
RTOL_REDUCTION = 1e-5
# Another framework's or the published code's result, as a share of the
# standard deviation of the logits.
RTOL_FRAMEWORK = 1e-4


def golden() -> dict:
  """The reference outputs (see golden/README.md)."""
  return json.loads((GOLDEN / 'golden.json').read_text())


def distinct_kernels(lowered: stages.Lowered) -> set[str]:
  """The fused operations of a program compiled for CPUs, whatever their names.

  XLA compiles those that are equal once.
  """
  # As `compilation.set_compiler_flags` has it.
  options = {'xla_disable_hlo_passes': 'cse_barrier_expander'}
  program = lowered.compile(compiler_options=options).as_text()
  bodies = set()
  for computation in program.split('\n\n'):
    header, _, body = computation.partition('\n')
    if 'fused_computation' in header or header.startswith('%wrapped'):
      body = re.sub(r', (metadata|frontend_attributes)=\{[^}]*\}', '', body)
      bodies.add(re.sub(r'%[\w.\-]+', '%', body))
  return bodies
