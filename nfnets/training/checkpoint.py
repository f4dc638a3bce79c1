"""Checkpoints on disk: written in the background, verified when read.

This is the only file that imports Orbax. Process 0 alone reads and writes; the
others receive what it read. A checkpoint appears under its step number only
when all of it is on disk, so that a run killed while saving finds the one
before. Layout of `<directory>/<step>/`: `state` (Orbax's arrays under flat
names such as 'params/NFNet/~/linear/w'), `manifest` (see manifest.py) and
`metrics`.
"""

import contextlib
import functools
import json
import logging
import math
import pathlib
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from nfnets import errors
from nfnets.training import devices
from nfnets.training import manifest as manifest_lib

_log = logging.getLogger(__name__)

# Orbax moves steps here before they are removed: a kill in the middle of a
# removal leaves no half of a checkpoint under its number.
_DELETED = 'deleted'
_TEMPORARY = '*.orbax-checkpoint-tmp*'


class Restored(NamedTuple):
  """A checkpoint that was read.

  Attributes:
    state: numpy arrays in the structure of the target; place it with
      `devices.replicate`.
    step: its number.
    metrics: what was measured at that step; {} for one saved on the way out.
    config: what the `Checkpointer` that wrote it was given.
  """

  state: Any
  step: int
  metrics: dict[str, float]
  config: Any


class Weights(NamedTuple):
  """What evaluation and export need of a checkpoint, as numpy arrays."""

  params: Any
  state: Any
  step: int
  metrics: dict[str, float]
  config: Any


class Checkpointer:
  """Saves and restores the train state of one run.

  All methods are called by every process, at the same step.
  """

  def __init__(
    self,
    directory: str | pathlib.Path,
    *,
    keep: int = 3,
    best_metric: str = 'eval/top1',
    config: Any = None,
  ) -> None:
    """Opens a directory of checkpoints.

    Args:
      directory: made if it is missing; held by one run at a time
        (`workdir.claim`).
      keep: how many of the newest to keep.
      best_metric: the checkpoint where this is highest is kept besides.
      config: JSON that each checkpoint carries along.
    """
    self.directory = pathlib.Path(directory).absolute()
    self._keep = keep
    self._best_metric = best_metric
    self._config = config
    self._saved: int | None = None
    self._manager: ocp.CheckpointManager | None = None
    if devices.is_primary():
      self.directory.mkdir(parents=True, exist_ok=True)
      for leftover in self.directory.glob(_TEMPORARY):
        shutil.rmtree(leftover, ignore_errors=True)
      shutil.rmtree(self.directory / _DELETED, ignore_errors=True)

  @property
  def latest_step(self) -> int | None:
    """The newest step that was saved or restored here."""
    return self._saved

  def restore_latest(self, target: Any) -> Restored | None:
    """Reads the newest checkpoint that is whole.

    One that is not is named in a warning and set aside (renamed, not removed),
    and the one before it is tried.

    Args:
      target: a train state, of which structure, shapes and dtypes count.

    Returns:
      What was read, or None where there is no checkpoint yet.

    Raises:
      UserError: checkpoints are there but none is whole, or the newest whole
        one does not fit the target.
    """
    arrays: manifest_lib.Arrays | None = None
    header: dict[str, Any] = {}
    if devices.is_primary():
      try:
        arrays, header = self._newest_whole(target)
      except errors.UserError as error:
        header = {'error': str(error)}
    header = json.loads(devices.broadcast_text(json.dumps(header)))
    if 'error' in header:
      raise errors.UserError(header['error'])
    if not header:
      return None
    flat = arrays or {
      name: np.zeros(x.shape, x.dtype)
      for name, x in manifest_lib.flatten(target).items()
    }
    flat = devices.broadcast_arrays(flat)
    self._saved = header['step']
    return Restored(manifest_lib.unflatten(flat, target), **header)

  def save(
    self, step: int, state: Any, metrics: dict[str, float] | None = None
  ) -> None:
    """Starts writing a checkpoint; returns when `state` may be donated.

    Waits for the save before it, if that still runs.

    Args:
      step: its number, above every number saved before. Again the newest
        number: nothing is done.
      state: a train state.
      metrics: what was measured at this step; without, it is never the best.

    Raises:
      UserError: this save cannot start or the one before failed, and why.
    """
    self.wait()
    if step == self._saved:
      return
    if devices.is_primary():
      self._start(step, _host_copy(state), metrics)
    self._saved = step

  def wait(self) -> None:
    """Returns when the last save is on disk.

    Raises:
      UserError: it failed, and why.
    """
    if self._manager is None:
      return
    try:
      self._manager.wait_until_finished()
      self._manager.check_for_errors()
    except Exception as error:
      raise self._write_error(self._saved, error) from error
    shutil.rmtree(self.directory / _DELETED, ignore_errors=True)

  def close(self) -> None:
    """Waits for the last save and lets go of Orbax's threads.

    Raises:
      UserError: the last save failed, and why.
    """
    try:
      self.wait()
    finally:
      if self._manager is not None:
        self._manager.close()
        self._manager = None

  def _newest_whole(self, target: Any) -> tuple[Any, dict[str, Any]]:
    """Arrays and header of the newest whole checkpoint, or (None, {})."""
    damaged = []
    found: tuple[Any, dict[str, Any]] = (None, {})
    for step in sorted(_steps(self.directory), reverse=True):
      path = self.directory / str(step)
      try:
        manifest = _read_manifest(path)
        if not found[1]:
          _check_fits(path, target, manifest)
          arrays = _read_arrays(path, manifest['leaves'])
          found = (arrays, {k: manifest[k] for k in _HEADER})
      except manifest_lib.DamagedError as error:
        aside = _set_aside(path)
        if any(aside.iterdir()):
          damaged.append(f'{step}: {error}')
        _log.warning(
          'checkpoint %s is not used, and is now %s: %s',
          path,
          aside.name,
          error,
        )
    if damaged and not found[1]:
      raise errors.UserError(
        f'no checkpoint in {self.directory} is whole ({"; ".join(damaged)}): '
        'put a good one back, or remove the directory to start anew'
      )
    return found

  def _start(self, step: int, arrays: Any, metrics: Any) -> None:
    manifest = manifest_lib.make(
      arrays, step=step, metrics=metrics or {}, config=self._config
    )
    try:
      if self._manager is None:
        self._manager = self._open()
      started = self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.PyTreeSave(arrays),
          manifest=ocp.args.JsonSave(manifest),
        ),
        # Orbax warns when there are none.
        metrics=metrics or {},
      )
    except Exception as error:
      raise self._write_error(step, error) from error
    if not started:
      raise errors.UserError(
        f'checkpoint {step} is not newer than those in {self.directory}'
      )

  def _open(self) -> ocp.CheckpointManager:
    best = functools.partial(_metric, self._best_metric)
    policies = checkpoint_managers.AnyPreservationPolicy(
      [
        checkpoint_managers.LatestN(self._keep),
        checkpoint_managers.BestN(
          get_metric_fn=best, n=1, keep_checkpoints_without_metrics=False
        ),
      ]
    )
    options = ocp.CheckpointManagerOptions(
      preservation_policy=policies,
      best_fn=best,
      todelete_subdir=_DELETED,
      create=False,  # not allowed with active_processes
      multiprocessing_options=_alone(),
    )
    return ocp.CheckpointManager(self.directory, options=options)

  def _write_error(self, step: int | None, error: Exception) -> Exception:
    whole = [s for s in _steps(self.directory) if s != step]
    last = f'step {max(whole)}' if whole else 'none'
    reason = ' '.join(str(error).split())[:300] or type(error).__name__
    return errors.UserError(
      f'checkpoint {step} cannot be written to {self.directory}: {reason}. '
      f'Last good one: {last}. Free space or mend the disk, and give the same '
      'command again'
    )


def read_weights(
  directory: str | pathlib.Path, step: int | None = None, *, ema: bool = True
) -> Weights:
  """Reads the weights of a checkpoint, without the optimizer's state.

  Changes nothing on disk, so that it may look into a run under way.

  Args:
    directory: of the checkpoints.
    step: which; None is the newest whole one.
    ema: the moving average, where one was kept; else the weights themselves.

  Raises:
    UserError: there is no such checkpoint, or it is not whole.
  """
  directory = pathlib.Path(directory).absolute()
  steps = _steps(directory) if step is None else [step]
  reasons = []
  for number in sorted(steps, reverse=True):
    try:
      return _weights(directory / str(number), ema)
    except manifest_lib.DamagedError as error:
      reasons.append(f'{number}: {error}')
      _log.warning('checkpoint %s is not used: %s', directory / str(number),
                   error)  # fmt: skip
  why = '; '.join(reasons) or 'it holds none'
  raise errors.UserError(f'no checkpoint to read in {directory} ({why})')


_HEADER = ('step', 'metrics', 'config')


def _weights(path: pathlib.Path, ema: bool) -> Weights:
  manifest = _read_manifest(path)
  names = manifest['leaves']
  prefix = (
    'ema_' if ema and any(n.startswith('ema_params/') for n in names) else ''
  )
  roots = f'{prefix}params/', f'{prefix}state/'
  leaves = {n: leaf for n, leaf in names.items() if n.startswith(roots)}
  arrays = _read_arrays(path, leaves)
  trees: list[dict[str, dict[str, np.ndarray]]] = [{}, {}]
  for name, array in arrays.items():
    for root, tree in zip(roots, trees, strict=True):
      if name.startswith(root):
        module, _, leaf = name.removeprefix(root).rpartition('/')
        tree.setdefault(module, {})[leaf] = array
  return Weights(trees[0], trees[1], **{k: manifest[k] for k in _HEADER})


def _host_copy(state: Any) -> dict[str, np.ndarray]:
  """Copies: on CPU numpy would look into buffers that the next step reuses."""
  return {
    name: np.array(x)
    for name, x in manifest_lib.flatten(jax.device_get(state)).items()
  }


def _metric(name: str, metrics: Any) -> float:
  value = metrics.get(name, -math.inf)
  return value if math.isfinite(value) else -math.inf


def _steps(directory: pathlib.Path) -> list[int]:
  if not directory.is_dir():
    return []
  return [
    int(path.name)
    for path in directory.iterdir()
    if path.name.isdecimal() and path.is_dir()
  ]


def _set_aside(path: pathlib.Path) -> pathlib.Path:
  """Renames a damaged checkpoint so that its number is free again."""
  aside = path.with_name(f'{path.name}.damaged')
  count = 1
  while aside.exists():
    count += 1
    aside = path.with_name(f'{path.name}.damaged{count}')
  return path.rename(aside)


def _read_manifest(path: pathlib.Path) -> dict[str, Any]:
  if not path.is_dir():
    raise manifest_lib.DamagedError('there is no such directory')
  try:
    manifest = manifest_lib.parse((path / 'manifest' / 'metadata').read_bytes())
    if manifest['metrics']:
      # Orbax reads this one when it looks for the best.
      json.loads((path / 'metrics' / 'metrics').read_bytes())
  except FileNotFoundError as error:
    raise manifest_lib.DamagedError(f'{error.filename} is missing') from error
  except (OSError, ValueError) as error:
    raise manifest_lib.DamagedError(str(error)) from error
  return manifest


def _check_fits(
  path: pathlib.Path, target: Any, manifest: dict[str, Any]
) -> None:
  wrong = manifest_lib.mismatches(target, manifest['leaves'])
  if wrong:
    raise errors.UserError(
      f'checkpoint {path} is of another network or optimizer: {wrong[0]}'
      + (f', and {len(wrong) - 1} more' if wrong[1:] else '')
      + ': give the config it was made with, or another workdir'
    )


def _read_arrays(
  path: pathlib.Path, leaves: dict[str, Any]
) -> manifest_lib.Arrays:
  """Reads the named arrays and compares them with their digests."""
  item = {name: 0 for name in leaves}
  how = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in leaves}
  args = ocp.args.PyTreeRestore(
    item=item, restore_args=how, partial_restore=True
  )
  try:
    with (
      _quiet_failure(),
      _reader() as reader,
    ):
      arrays = reader.restore(path / 'state', args=args)
    arrays = {name: np.asarray(x) for name, x in arrays.items()}
  except Exception as error:  # Orbax's errors have no common base
    reason = ' '.join(str(error).split())[:200]
    raise manifest_lib.DamagedError(f'its arrays: {reason}') from error
  manifest_lib.verify(arrays, leaves)
  return arrays


def _alone() -> ocp.options.MultiprocessingOptions:
  """Orbax waits for no other process."""
  own = jax.process_index()
  return ocp.options.MultiprocessingOptions(
    primary_host=own, active_processes={own}
  )


def _reader() -> ocp.Checkpointer:
  handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone())
  return ocp.Checkpointer(handler, multiprocessing_options=_alone())


@contextlib.contextmanager
def _quiet_failure() -> Iterator[None]:
  """Keeps what Orbax leaves behind after a failed read off the terminal.

  It gives up at the first bad array and closes its event loop; the reads that
  are still under way then print a traceback each when they end.
  """

  def ignore_closed_loop(unraisable: Any) -> None:
    if 'Event loop is closed' not in str(unraisable.exc_value):
      previous(unraisable)

  previous, sys.unraisablehook = sys.unraisablehook, ignore_closed_loop
  try:
    yield
  except Exception:
    time.sleep(1)
    raise
  finally:
    sys.unraisablehook = previous
