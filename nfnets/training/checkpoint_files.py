"""A directory of checkpoints, without Orbax."""

import json
import logging
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import chex

from nfnets import errors, files
from nfnets.models import registry
from nfnets.training import dataset as dataset_lib
from nfnets.training import manifest as manifest_lib

_log = logging.getLogger(__name__)

# Orbax moves checkpoints here before removing them: a kill during a removal
# leaves no partial checkpoint under its number.
DELETED = 'deleted'
_TEMPORARY = '*.orbax-checkpoint-tmp*'

# The metric of the best checkpoint, which is kept.
_BEST_METRIC = 'eval/top1'

# (path of a checkpoint, leaves of its manifest) -> verified arrays by their
# stable names; raises DamagedError.
ReadArrays: TypeAlias = Callable[
  [pathlib.Path, Mapping[str, manifest_lib.Leaf]], manifest_lib.Arrays
]
# Raises an error if Orbax cannot read what describes a checkpoint.
CheckOrbax: TypeAlias = Callable[[pathlib.Path], None]


class Found(NamedTuple):
  """The newest intact checkpoint of a directory.

  Attributes:
    arrays: the arrays of the train state by their stable names.
    step: its step number.
    metrics: evaluation metrics at that step; {} for one saved on exit.
    config: the settings of the run that wrote it.
  """

  arrays: manifest_lib.Arrays
  step: int
  metrics: dict[str, float]
  config: manifest_lib.Settings | None


class Weights(NamedTuple):
  """The part of a checkpoint for evaluation and export, as numpy arrays.

  Attributes:
    params: the parameters or their moving average.
    state: the network's state or its moving average.
    step: the checkpoint's step number.
    config: the settings of the run that wrote it.
    dataset: the run's data; None if an older version wrote the checkpoint.
  """

  params: registry.Params
  state: registry.State
  step: int
  config: manifest_lib.Settings | None
  dataset: dataset_lib.Dataset | None


def open_directory(directory: pathlib.Path) -> None:
  """Creates the directory and removes what a killed run left unfinished."""
  directory.mkdir(parents=True, exist_ok=True)
  for leftover in directory.glob(_TEMPORARY):
    shutil.rmtree(leftover, ignore_errors=True)
  remove_deleted(directory)


def remove_deleted(directory: pathlib.Path) -> None:
  """Removes the checkpoints that Orbax has moved to `DELETED`."""
  shutil.rmtree(directory / DELETED, ignore_errors=True)


def steps(directory: pathlib.Path) -> list[int]:
  """Returns all checkpoint numbers, intact or not, newest first."""
  names = [path.name for path in step_folders(directory)]
  # Not '007' or digits of another script, which `int` reads as well.
  return [int(name) for name in names if name == str(int(name))]


def step_folders(directory: pathlib.Path) -> list[pathlib.Path]:
  """Returns all folders that Orbax takes for checkpoints, newest first.

  Raises:
    UserError: the directory cannot be read.
  """
  try:
    if not directory.is_dir():
      return []
    found = [path for path in directory.iterdir() if path.name.isdecimal()]
    folders = [path for path in found if path.is_dir()]
  except OSError as error:
    raise errors.UserError(
      f'{directory} cannot be read ({error.strerror}): change its permissions'
    ) from error
  return sorted(folders, key=lambda p: (int(p.name), p.name), reverse=True)


def read_manifest(
  path: pathlib.Path, check_orbax: CheckOrbax
) -> manifest_lib.Manifest:
  """Reads the manifest of a checkpoint.

  Also checks the files that Orbax reads in every checkpoint to find the best:
  damaged ones would make it impossible to save another.

  Args:
    path: the checkpoint's directory.
    check_orbax: see `CheckOrbax`.

  Raises:
    DamagedError: a file is missing, unreadable or not what was written.
  """
  if not path.is_dir():
    raise manifest_lib.DamagedError('there is no such directory')
  if path.name != str(int(path.name)):
    raise manifest_lib.DamagedError(
      f'its directory must be named {int(path.name)}'
    )
  try:
    with files.open_regular(path / 'manifest' / 'metadata') as file:
      manifest = manifest_lib.parse(file.readall())
    metrics = files.read_json(path / 'metrics' / 'metrics')
    files.read_json(path / '_CHECKPOINT_METADATA')
  except FileNotFoundError as error:
    raise manifest_lib.DamagedError(f'{error.filename} is missing') from error
  except (OSError, ValueError) as error:
    raise manifest_lib.DamagedError(str(error)) from error
  if json.dumps(metrics) != json.dumps(manifest['metrics']):
    raise manifest_lib.DamagedError('metrics/metrics is not what was written')
  if path.name != str(manifest['step']):
    step = manifest['step']
    raise manifest_lib.DamagedError(f'its manifest is that of step {step}')
  try:
    check_orbax(path)
  except Exception as error:  # Orbax's errors have no common base
    reason = ' '.join(str(error).split())[:200]
    raise manifest_lib.DamagedError(
      f'_CHECKPOINT_METADATA cannot be read ({reason})'
    ) from error
  return manifest


def check_fits(
  path: pathlib.Path, target: chex.ArrayTree, manifest: manifest_lib.Manifest
) -> None:
  """Refuses a checkpoint of another network or optimizer than `target`.

  Raises:
    UserError: with the first array that does not fit.
  """
  wrong = manifest_lib.mismatches(target, manifest['leaves'])
  if wrong:
    raise errors.UserError(
      f'checkpoint {path} is of another network or optimizer: {wrong[0]}'
      + (f', and {len(wrong) - 1} more' if wrong[1:] else '')
      + ': use the config it was trained with, or another workdir'
    )


def newest_intact(
  directory: pathlib.Path,
  target: chex.ArrayTree,
  dataset: dataset_lib.Dataset | None,
  read_arrays: ReadArrays,
  check_orbax: CheckOrbax,
) -> Found | None:
  """Finds and reads the newest checkpoint that is exactly what was written.

  Damaged ones are moved aside with a warning.

  Args:
    directory: the directory of checkpoints.
    target: the train state to restore into; only names, shapes and dtypes
      matter.
    dataset: the run's data; None is not compared.
    read_arrays: see `ReadArrays`.
    check_orbax: see `CheckOrbax`.

  Returns:
    The checkpoint, or None if there is none at all.

  Raises:
    UserError: none is intact, or the newest intact one does not fit.
  """
  damaged: dict[pathlib.Path, str] = {}
  found: Found | None = None
  for path in step_folders(directory):
    try:
      manifest = read_manifest(path, check_orbax)
      if found is None:
        dataset_lib.check(
          path, dataset, manifest['dataset'], manifest['config']
        )
        check_fits(path, target, manifest)
        arrays = read_arrays(path, manifest['leaves'])
        found = Found(
          arrays, manifest['step'], manifest['metrics'], manifest['config']
        )
    except manifest_lib.DamagedError as error:
      damaged[path] = str(error)
  lost = [f'{p.name}: {why}' for p, why in damaged.items() if os.listdir(p)]
  if lost and found is None:
    raise errors.UserError(
      f'no checkpoint in {directory} is intact ({"; ".join(lost)}): restore '
      'one from a backup, or remove the directory to start over'
    )
  for path, why in damaged.items():
    aside = path.rename(files.free_name(path)).name
    text = errors.printable(f'{path} (now {aside}): {why}')
    _log.warning('skipped damaged checkpoint %s', text)
  return found


def read_weights(
  path: pathlib.Path,
  ema: bool,
  read_arrays: ReadArrays,
  check_orbax: CheckOrbax,
) -> Weights:
  """Reads the weights of one checkpoint.

  Args:
    path: the checkpoint's directory.
    ema: whether to read the moving averages, if the run kept them.
    read_arrays: see `ReadArrays`.
    check_orbax: see `CheckOrbax`.

  Raises:
    DamagedError: the checkpoint is damaged.
  """
  manifest = read_manifest(path, check_orbax)
  names = manifest['leaves']
  averaged = ema and any(name.startswith('ema_params/') for name in names)
  prefix = 'ema_' if averaged else ''
  roots = f'{prefix}params/', f'{prefix}state/'
  leaves = {n: leaf for n, leaf in names.items() if n.startswith(roots)}
  arrays = read_arrays(path, leaves)
  trees: list[registry.Params] = [{}, {}]
  for name, array in arrays.items():
    for root, tree in zip(roots, trees, strict=True):
      if name.startswith(root):
        module, _, leaf = name.removeprefix(root).rpartition('/')
        tree.setdefault(module, {})[leaf] = array
  return Weights(
    trees[0],
    trees[1],
    manifest['step'],
    manifest['config'],
    manifest['dataset'],
  )


def score(metrics: dict[str, float]) -> float:
  """Returns the metric to rank by; -inf if it is missing or not finite."""
  value = metrics.get(_BEST_METRIC, -math.inf)
  return value if math.isfinite(value) else -math.inf


def write_error(
  directory: pathlib.Path, step: int | None, error: Exception
) -> errors.UserError:
  """Explains why a checkpoint was not written, and which one is good."""
  intact = [s for s in steps(directory) if s != step]
  last = f'step {max(intact)}' if intact else 'none'
  reason = ' '.join(str(error).split())[:300] or type(error).__name__
  return errors.UserError(
    f'checkpoint {step} cannot be written to {directory}: {reason}. '
    f'Last good checkpoint: {last}. Free some space or fix the disk, then '
    'rerun the same command'
  )
