"""A directory of checkpoints, seen without Orbax."""

import json
import logging
import math
import pathlib
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nfnets import errors
from nfnets.training import manifest as manifest_lib

_log = logging.getLogger(__name__)

# Orbax moves steps here before they are removed: a kill in the middle of a
# removal leaves no half of a checkpoint under its number.
DELETED = 'deleted'
_TEMPORARY = '*.orbax-checkpoint-tmp*'


_HEADER = ('step', 'metrics', 'config')

# What Orbax reads of every checkpoint when it looks for the best.
_ORBAX_READS = ('_CHECKPOINT_METADATA', 'metrics/metrics')

# (path of a step, leaves of its manifest) -> arrays, or a DamagedError
ReadArrays = Callable[[pathlib.Path, dict[str, Any]], manifest_lib.Arrays]


class Weights(NamedTuple):
  """What evaluation and export need of a checkpoint, as numpy arrays."""

  params: Any
  state: Any
  step: int
  metrics: dict[str, float]
  config: Any


def open_directory(directory: pathlib.Path) -> None:
  """Makes the directory, and removes what a killed run left half done."""
  directory.mkdir(parents=True, exist_ok=True)
  for leftover in directory.glob(_TEMPORARY):
    shutil.rmtree(leftover, ignore_errors=True)
  remove_deleted(directory)


def remove_deleted(directory: pathlib.Path) -> None:
  """Removes the checkpoints that Orbax has moved out of the way."""
  shutil.rmtree(directory / DELETED, ignore_errors=True)


def steps(directory: pathlib.Path) -> list[int]:
  """The numbers under which there is something, the newest first."""
  if not directory.is_dir():
    return []
  found = (p for p in directory.iterdir() if p.name.isdecimal())
  return sorted((int(p.name) for p in found if p.is_dir()), reverse=True)


def set_aside(path: pathlib.Path) -> pathlib.Path:
  """Renames a damaged checkpoint so that its number is free again."""
  aside = path.with_name(f'{path.name}.damaged')
  count = 1
  while aside.exists():
    count += 1
    aside = path.with_name(f'{path.name}.damaged{count}')
  return path.rename(aside)


def read_manifest(path: pathlib.Path) -> dict[str, Any]:
  """Reads what a checkpoint says of itself.

  Raises:
    DamagedError: it is missing or not what was written.
  """
  if not path.is_dir():
    raise manifest_lib.DamagedError('there is no such directory')
  try:
    manifest = manifest_lib.parse((path / 'manifest' / 'metadata').read_bytes())
    for name in _ORBAX_READS:
      json.loads((path / name).read_bytes())
  except FileNotFoundError as error:
    raise manifest_lib.DamagedError(f'{error.filename} is missing') from error
  except (OSError, ValueError) as error:
    raise manifest_lib.DamagedError(str(error)) from error
  return manifest


def check_fits(
  path: pathlib.Path, target: Any, manifest: dict[str, Any]
) -> None:
  """Refuses a checkpoint of another network or optimizer than `target`.

  Raises:
    UserError: names the first array that is not as expected.
  """
  wrong = manifest_lib.mismatches(target, manifest['leaves'])
  if wrong:
    raise errors.UserError(
      f'checkpoint {path} is of another network or optimizer: {wrong[0]}'
      + (f', and {len(wrong) - 1} more' if wrong[1:] else '')
      + ': give the config it was made with, or another workdir'
    )


def newest_whole(
  directory: pathlib.Path, target: Any, read_arrays: ReadArrays
) -> tuple[manifest_lib.Arrays | None, dict[str, Any]]:
  """Looks for the newest checkpoint that is what was written.

  Those that are not are set aside, with a warning.

  Args:
    directory: of the checkpoints.
    target: what the checkpoint is to fill.
    read_arrays: (path of a step, manifest's leaves) -> verified arrays.

  Returns:
    Its arrays, and its 'step', 'metrics' and 'config'; None and {} where there
    is no checkpoint at all.

  Raises:
    UserError: none is whole, or the newest whole one does not fit.
  """
  damaged: dict[pathlib.Path, str] = {}
  found: tuple[manifest_lib.Arrays | None, dict[str, Any]] = (None, {})
  for step in steps(directory):
    path = directory / str(step)
    try:
      manifest = read_manifest(path)
      if not found[1]:
        check_fits(path, target, manifest)
        arrays = read_arrays(path, manifest['leaves'])
        found = (arrays, {k: manifest[k] for k in _HEADER})
    except manifest_lib.DamagedError as error:
      damaged[path] = str(error)
  lost = [f'{p.name}: {why}' for p, why in damaged.items() if any(p.iterdir())]
  if lost and not found[1]:
    raise errors.UserError(
      f'no checkpoint in {directory} is whole ({"; ".join(lost)}): put a good '
      'one back, or remove the directory to start anew'
    )
  for path, why in damaged.items():
    aside = set_aside(path).name
    _log.warning('checkpoint %s is not used (now %s): %s', path, aside, why)
  return found


def read_weights(
  path: pathlib.Path, ema: bool, read_arrays: ReadArrays
) -> Weights:
  """Reads the weights of one checkpoint.

  Raises:
    DamagedError: it is not whole.
  """
  manifest = read_manifest(path)
  names = manifest['leaves']
  averaged = ema and any(name.startswith('ema_params/') for name in names)
  prefix = 'ema_' if averaged else ''
  roots = f'{prefix}params/', f'{prefix}state/'
  leaves = {n: leaf for n, leaf in names.items() if n.startswith(roots)}
  arrays = read_arrays(path, leaves)
  trees: list[dict[str, dict[str, np.ndarray]]] = [{}, {}]
  for name, array in arrays.items():
    for root, tree in zip(roots, trees, strict=True):
      if name.startswith(root):
        module, _, leaf = name.removeprefix(root).rpartition('/')
        tree.setdefault(module, {})[leaf] = array
  return Weights(trees[0], trees[1], **{k: manifest[k] for k in _HEADER})


def metric(name: str, metrics: dict[str, float]) -> float:
  """What the best checkpoint has most of; -inf where there is no number."""
  value = metrics.get(name, -math.inf)
  return value if math.isfinite(value) else -math.inf


def write_error(
  directory: pathlib.Path, step: int | None, error: Exception
) -> errors.UserError:
  """Says why a checkpoint is not on disk, and what is."""
  whole = [s for s in steps(directory) if s != step]
  last = f'step {max(whole)}' if whole else 'none'
  reason = ' '.join(str(error).split())[:300] or type(error).__name__
  return errors.UserError(
    f'checkpoint {step} cannot be written to {directory}: {reason}. '
    f'Last good one: {last}. Free space or mend the disk, and give the same '
    'command again'
  )
