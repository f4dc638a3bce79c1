"""A directory of checkpoints, without Orbax."""

import functools
import json
import logging
import math
import pathlib
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import chex

from nfnets import errors
from nfnets.models import registry
from nfnets.training import manifest as manifest_lib

_log = logging.getLogger(__name__)

# Orbax moves checkpoints here before removing them: a kill during a removal
# leaves no partial checkpoint under its number.
DELETED = 'deleted'
_TEMPORARY = '*.orbax-checkpoint-tmp*'

# The files that Orbax reads in every checkpoint to find the best.
_ORBAX_READS = ('_CHECKPOINT_METADATA', 'metrics/metrics')
# The metric of the best checkpoint, which is kept.
_BEST_METRIC = 'eval/top1'

# (path of a checkpoint, leaves of its manifest) -> verified arrays by their
# stable names; raises DamagedError.
ReadArrays: TypeAlias = Callable[
  [pathlib.Path, Mapping[str, manifest_lib.Leaf]], manifest_lib.Arrays
]


class Found(NamedTuple):
  """The newest intact checkpoint of a directory.

  Attributes:
    arrays: the arrays of the train state by their stable names.
    step: its step number.
    metrics: evaluation metrics at that step; {} for one saved on exit.
  """

  arrays: manifest_lib.Arrays
  step: int
  metrics: dict[str, float]


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
  dataset: manifest_lib.Dataset | None


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
  if not directory.is_dir():
    return []
  found = (p for p in directory.iterdir() if p.name.isdecimal())
  return sorted((int(p.name) for p in found if p.is_dir()), reverse=True)


def move_aside(path: pathlib.Path) -> pathlib.Path:
  """Renames a damaged checkpoint to free its number."""
  aside = path.with_name(f'{path.name}.damaged')
  count = 1
  while aside.exists():
    count += 1
    aside = path.with_name(f'{path.name}.damaged{count}')
  return path.rename(aside)


def read_manifest(path: pathlib.Path) -> manifest_lib.Manifest:
  """Reads the manifest of a checkpoint.

  Raises:
    DamagedError: a file is missing, unreadable or not what was written.
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


def check_dataset(
  path: pathlib.Path,
  dataset: manifest_lib.Dataset | None,
  manifest: manifest_lib.Manifest,
) -> None:
  """Refuses a checkpoint that was trained on other data than `dataset`.

  A checkpoint of an older version contains only the data set's name, with the
  settings. A change of the held-out images is logged: it does not affect
  training.

  Raises:
    UserError: the classes or the number of training images differ, or they are
      unknown and the data set has another name.
  """
  stored = manifest['dataset']
  if dataset is None:
    return
  if stored is None:
    name = (manifest['config'] or {}).get('dataset', dataset['name'])
    if name != dataset['name']:
      raise errors.UserError(
        f'checkpoint {path} was trained on {name}, and its classes are unknown,'
        ' as an older version wrote it: use the same data set, or choose'
        ' another --workdir'
      )
    return
  changes = manifest_lib.changes(stored, dataset)
  if changes:
    raise errors.UserError(
      f'checkpoint {path} was trained on other data than'
      f' {dataset["name"]} ({changes}): restore the data set, or choose another'
      ' --workdir'
    )
  before, after = stored['eval_images'], dataset['eval_images']
  if before != after:
    _log.warning(
      'held-out images: %d -> %d since checkpoint %s: the metrics before and'
      ' after it are not comparable',
      before,
      after,
      path,
    )


def newest_intact(
  directory: pathlib.Path,
  target: chex.ArrayTree,
  dataset: manifest_lib.Dataset | None,
  read_arrays: ReadArrays,
) -> Found | None:
  """Finds and reads the newest checkpoint that is exactly what was written.

  Damaged ones are moved aside with a warning.

  Args:
    directory: the directory of checkpoints.
    target: the train state to restore into; only names, shapes and dtypes
      matter.
    dataset: the run's data; None is not compared.
    read_arrays: see `ReadArrays`.

  Returns:
    The checkpoint, or None if there is none at all.

  Raises:
    UserError: none is intact, or the newest intact one does not fit.
  """
  damaged: dict[pathlib.Path, str] = {}
  found: Found | None = None
  for step in steps(directory):
    path = directory / str(step)
    try:
      manifest = read_manifest(path)
      if found is None:
        check_dataset(path, dataset, manifest)
        check_fits(path, target, manifest)
        arrays = read_arrays(path, manifest['leaves'])
        found = Found(arrays, manifest['step'], manifest['metrics'])
    except manifest_lib.DamagedError as error:
      damaged[path] = str(error)
  lost = [f'{p.name}: {why}' for p, why in damaged.items() if any(p.iterdir())]
  if lost and found is None:
    raise errors.UserError(
      f'no checkpoint in {directory} is intact ({"; ".join(lost)}): restore '
      'one from a backup, or remove the directory to start over'
    )
  for path, why in damaged.items():
    aside = move_aside(path).name
    _log.warning('skipped damaged checkpoint %s (now %s): %s', path, aside, why)
  return found


def read_weights(
  path: pathlib.Path, ema: bool, read_arrays: ReadArrays
) -> Weights:
  """Reads the weights of one checkpoint.

  Args:
    path: the checkpoint's directory.
    ema: whether to read the moving averages, if the run kept them.
    read_arrays: see `ReadArrays`.

  Raises:
    DamagedError: the checkpoint is damaged.
  """
  manifest = read_manifest(path)
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


@functools.cache
def hush_orbax() -> None:
  """Keeps Orbax's tracebacks off the terminal; its errors are raised anyway.

  Orbax logs each error of its threads. After the first bad array it also closes
  the event loop that its other reads and writes still report to.
  """
  logger = logging.getLogger('absl')
  logger.addFilter(lambda record: 'orbax' not in record.pathname)
  previous = sys.unraisablehook

  def hook(unraisable: 'sys.UnraisableHookArgs') -> None:
    if 'Event loop is closed' not in str(unraisable.exc_value):
      previous(unraisable)

  sys.unraisablehook = hook
