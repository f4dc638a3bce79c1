"""metrics.jsonl: one JSON object a line, in the order of the steps."""

import json
import math
import os
import pathlib
from collections.abc import Mapping

from nfnets import files


class MetricsFile:
  """Appends scalars to a file of JSON lines.

  A run that goes on from a checkpoint measures the steps after it again, so
  opening drops the lines of those steps, and a last line that a kill cut in
  half. All other lines stay as they are.
  """

  def __init__(self, path: str | pathlib.Path, start_step: int) -> None:
    """Opens a file for the steps after `start_step`.

    Args:
      path: of the file, made if it is missing.
      start_step: the last step whose lines are kept.
    """
    path = pathlib.Path(path)
    if path.exists():
      _drop_after(path, start_step)
    self._file = open(path, 'a', encoding='utf-8')

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Appends a line; what is not finite becomes null, as JSON has no NaN."""
    finite = {k: v if math.isfinite(v) else None for k, v in scalars.items()}
    self._file.write(json.dumps({'step': step, **finite}) + '\n')
    self._file.flush()

  def sync(self) -> None:
    """Returns when all lines are on disk."""
    self._file.flush()
    os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def _drop_after(path: pathlib.Path, start_step: int) -> None:
  lines = path.read_bytes().splitlines(keepends=True)
  kept = [line for line in lines if _is_kept(line, start_step)]
  if len(kept) == len(lines):
    return
  with files.replacing(path) as temporary:
    temporary.write_bytes(b''.join(kept))


def _is_kept(line: bytes, start_step: int) -> bool:
  try:
    return line.endswith(b'\n') and json.loads(line)['step'] <= start_step
  except (ValueError, KeyError, TypeError):
    return False
