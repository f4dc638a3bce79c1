"""metrics.jsonl: one JSON object per line, ordered by step."""

import json
import logging
import math
import os
import pathlib
import shutil
from collections.abc import Mapping

from nfnets import files

_log = logging.getLogger(__name__)

_START = b'{"step": '


class MetricsFile:
  """Appends scalars to a file of JSON lines.

  A run that resumes from a checkpoint repeats the steps after it, so opening
  the file drops their lines, and a last line that a kill cut short. All other
  lines stay unchanged. If some of them are damaged, a copy of the file with
  them is kept beside it.
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


def read_evaluations(
  path: pathlib.Path, last_step: int
) -> list[dict[str, float]]:
  """Reads the lines of evaluations.

  Args:
    path: the file; without it there are none.
    last_step: the last step to read lines of.

  Returns:
    'step' and the metrics of each line with one such as 'eval/top1' or
    'test/top1', in order; what is not a number is NaN. Damaged lines are
    omitted.
  """
  try:
    text = path.read_bytes()
  except OSError:
    return []
  found = []
  for line in text.splitlines():
    step = _step(line)
    if step is None or step > last_step:
      continue
    values = files.parse_json(line)
    if any(name.startswith(('eval/', 'test/')) for name in values):
      found.append(
        {
          name: value if isinstance(value, int | float) else math.nan
          for name, value in values.items()
        }
      )
  return found


def _drop_after(path: pathlib.Path, start_step: int) -> None:
  text = path.read_bytes()
  if text and not text.endswith(b'\n'):
    *whole, last = text.splitlines(keepends=True)
    cut_short = _step(last) is None and last.startswith(_START[: len(last)])
    text = b''.join(whole) if cut_short else text + b'\n'
  lines = text.splitlines(keepends=True)
  steps = [_step(line) for line in lines]
  if None in steps:
    aside = files.free_name(path)
    shutil.copyfile(path, aside)
    _log.warning(
      '%s: line %d is damaged and was dropped; %s has all lines',
      path,
      1 + steps.index(None),
      aside.name,
    )
  kept = [
    line
    for line, step in zip(lines, steps, strict=True)
    if step is not None and step <= start_step
  ]
  if len(kept) == len(lines) and path.stat().st_size == len(text):
    return
  with files.replacing(path) as temporary:
    temporary.write_bytes(b''.join(kept))


def _step(line: bytes) -> int | None:
  """Returns the step of a line, None if it is damaged."""
  try:
    values = files.parse_json(line)
  except ValueError:
    return None
  step = values.get('step') if isinstance(values, dict) else None
  return step if type(step) is int else None
