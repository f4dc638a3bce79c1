"""Tolerances, named once, and what several tests share."""

import json
import pathlib

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
