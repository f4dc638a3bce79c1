"""The runs of a study, and their results in results.jsonl."""

import json
import math
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from nfnets import errors, files
from nfnets.experiment import config as config_lib
from nfnets.experiment import kinds

Label: TypeAlias = str | int | float

FILE = 'results.jsonl'
"""The name of the file in a study's folder."""

_FINISHED, _DIVERGED = 'finished', 'diverged'
_MAX_SECONDS = 1e9  # More, times the number of runs, is no `timedelta`.
_UNSAFE = re.compile(r'[^\w.+-]+', re.ASCII)


class Run(NamedTuple):
  """One run of a study.

  Attributes:
    labels: what the study varies, the seed included; determines the name.
    settings: the settings that differ from `experiment.config.base()`.
    start: name of the run of the same study to start from; '': random weights.
    keep: whether to save its weights, since other runs start from them.
  """

  labels: Mapping[str, Label]
  settings: Mapping[str, kinds.Value]
  start: str = ''
  keep: bool = False

  @property
  def name(self) -> str:
    """The name of its folder, such as 'batch_64-seed_0'."""
    return '-'.join(
      _UNSAFE.sub('_', f'{key}_{value}') for key, value in self.labels.items()
    )


class Result(NamedTuple):
  """The result of a run.

  Attributes:
    labels: the run's labels.
    numbers: what it measured, such as {'top1': 0.9}; finite numbers only.
    diverged: whether it ended in numbers that are not finite.
    seconds: how long it took, compilation included; if it was interrupted, its
      last part.
    settings: the run's settings, flattened, without those at their defaults.
  """

  labels: Mapping[str, Label]
  numbers: Mapping[str, float]
  diverged: bool
  seconds: float
  settings: Mapping[str, object]


def changed_settings(run: Run) -> dict[str, object]:
  """Returns a run's settings that are not at their defaults, as JSON values."""
  default = config_lib.flatten(config_lib.base())
  values = config_lib.flatten(config_lib.nested(default | dict(run.settings)))
  return {k: x for k, x in values.items() if default[k] != x}


def read(path: pathlib.Path) -> dict[str, Result]:
  """Reads the results of the runs that have ended.

  Args:
    path: the file; without it there are none.

  Returns:
    {name of the run: result}.

  Raises:
    UserError: the file cannot be read, or a line is damaged.
  """
  try:
    lines = path.read_bytes().splitlines()
  except FileNotFoundError:
    return {}
  except OSError as error:
    raise errors.UserError(
      f'{path} cannot be read ({error.strerror}): make it readable, or choose'
      ' another --out'
    ) from error
  found: dict[str, Result] = {}
  for number, line in enumerate(lines, 1):
    try:
      name, result = _parse(line)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
      reason = ' '.join(str(error).split())[:80]
      raise errors.UserError(
        f'{path}, line {number}: is no result of a run'
        f' ({type(error).__name__}: {reason}): remove the line to repeat its'
        ' run'
      ) from error
    found[name] = result
  return found


def _parse(line: bytes) -> tuple[str, Result]:
  values = files.parse_json(line)
  labels, settings = dict(values['labels']), dict(values['settings'])
  if not all(isinstance(x, str | int | float) for x in labels.values()):
    raise ValueError(f'the labels are {labels}')
  numbers = {str(k): float(x) for k, x in values['numbers'].items()}
  if not all(map(math.isfinite, numbers.values())):
    raise ValueError(f'the numbers are {numbers}')
  seconds = float(values['seconds'])
  if not 0 <= seconds < _MAX_SECONDS:
    raise ValueError(f'it took {seconds:g} seconds')
  diverged = {_FINISHED: False, _DIVERGED: True}[values['outcome']]
  result = Result(labels, numbers, diverged, seconds, settings)
  return str(values['run']), result


def append(path: pathlib.Path, name: str, result: Result) -> None:
  """Adds a line to the file, which is complete at every moment.

  Args:
    path: the file, created if missing.
    name: the run's name.
    result: its result.

  Raises:
    UserError: the file cannot be written.
  """
  line = {
    'run': name,
    'labels': dict(result.labels),
    'outcome': _DIVERGED if result.diverged else _FINISHED,
    'numbers': dict(result.numbers),
    'seconds': round(result.seconds, 1),
    'settings': dict(result.settings),
  }
  try:
    before = path.read_bytes() if path.exists() else b''
    with files.replacing(path) as temporary, open(temporary, 'wb') as file:
      file.write(before + json.dumps(line).encode() + b'\n')
      file.flush()
      os.fsync(file.fileno())
  except OSError as error:
    raise errors.UserError(
      f'{path} cannot be written ({error.strerror}): free some space, or choose'
      ' another --out'
    ) from error


def check_same(
  runs: Iterable[Run], found: Mapping[str, Result], path: pathlib.Path
) -> None:
  """Checks that the results are those of these runs.

  Args:
    runs: the runs of the study.
    found: from `read`.
    path: the file that they are from.

  Raises:
    UserError: a run had other settings, or its labels are damaged.
  """
  default = config_lib.flatten(config_lib.base())
  for run in runs:
    if run.name not in found:
      continue
    if found[run.name].labels != run.labels:
      raise errors.UserError(
        f'{path}: the run {run.name} has the labels'
        f' {json.dumps(found[run.name].labels)[:200]}: remove its line to'
        ' repeat it'
      )
    differences = config_lib.differences(
      dict(found[run.name].settings), default | changed_settings(run)
    )
    if differences:
      raise errors.UserError(
        f'{path}: the run {run.name} had other settings'
        f' ({"; ".join(differences)}): choose another --out, or use the same'
        ' options'
      )


def select(found: Iterable[Result], **labels: Label) -> list[Result]:
  """Returns the results with these labels.

  Args:
    found: the results.
    **labels: such as batch=64; a result without one of them is left out.
  """
  return [
    x
    for x in found
    if all(k in x.labels and x.labels[k] == v for k, v in labels.items())
  ]
