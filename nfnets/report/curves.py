"""Learning curves of a run from its metrics.jsonl."""

import math
import pathlib

from nfnets import files

Curves = dict[str, list[tuple[int, float]]]


def read(path: pathlib.Path, last_step: int | None = None) -> Curves:
  """Reads the metrics of a run.

  Args:
    path: the file; no curves if it is missing.
    last_step: the last step to read lines of; None reads all.

  Returns:
    {name of the metric: (step, value) in order}; null is NaN. Damaged lines are
    omitted.
  """
  try:
    text = path.read_bytes()
  except OSError:
    return {}
  found: Curves = {}
  for line in text.splitlines():
    try:
      values = files.parse_json(line)
      step = values.pop('step')
      points = {
        k: math.nan if x is None else float(x) for k, x in values.items()
      }
    except (ValueError, TypeError, KeyError, AttributeError):
      continue
    if type(step) is int and (last_step is None or step <= last_step):
      for name, value in points.items():
        found.setdefault(name, []).append((step, value))
  return found
