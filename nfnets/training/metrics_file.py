"""metrics.jsonl: one JSON object per line, ordered by step."""

import json
import math
import os
import pathlib
from collections.abc import Mapping

from nfnets import files


class MetricsFile:
  """Appends scalars to a file of JSON lines.

  A run that resumes from a checkpoint repeats the steps after it, so opening
  the file drops their lines, and a last line that a kill cut short. All other
  lines stay unchanged.
  """

  def __init__(self, path: str | pathlib.Path, start_step: int) -> None:
    """Opens a file for the steps after `start_step`.

    Args:
      path: the file, created if missing.
      start_step: the last step to keep lines of.
    """
    path = pathlib.Path(path)
    if path.exists():
      _drop_after(path, start_step)
    self._file = open(path, 'a', encoding='utf-8')

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Appends a line; JSON has no NaN or infinity, so they become null."""
    finite = {k: v if math.isfinite(v) else None for k, v in scalars.items()}
    self._file.write(json.dumps({'step': step, **finite}) + '\n')
    self._file.flush()

  def sync(self) -> None:
    """Waits until all lines are on disk."""
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
