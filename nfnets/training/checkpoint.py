"""Checkpoints on disk: written in the background, verified when read.

This is the only file that imports Orbax. Process 0 alone reads and writes; the
others receive what it read. A checkpoint appears under its step number only
when all of it is on disk, so that a run killed while saving finds the one
before. Layout of `<directory>/<step>/`: `state` (Orbax's arrays under flat
names such as 'params/NFNet/~/linear/w'), `manifest` (see manifest.py) and
`metrics`.
"""

import functools
import json
import logging
import pathlib
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from nfnets import errors
from nfnets.training import checkpoint_files, devices
from nfnets.training import manifest as manifest_lib

_log = logging.getLogger(__name__)


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
      checkpoint_files.open_directory(self.directory)

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
        arrays, header = checkpoint_files.newest_whole(
          self.directory, target, _read_arrays
        )
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
      self._start(step, manifest_lib.host_copy(state), metrics)
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
      raise checkpoint_files.write_error(
        self.directory, self._saved, error
      ) from error
    checkpoint_files.remove_deleted(self.directory)

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
      raise checkpoint_files.write_error(self.directory, step, error) from error
    if not started:
      raise errors.UserError(
        f'checkpoint {step} is not newer than those in {self.directory}'
      )

  def _open(self) -> ocp.CheckpointManager:
    _hush_orbax()
    best = functools.partial(checkpoint_files.metric, self._best_metric)
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
      todelete_subdir=checkpoint_files.DELETED,
      create=False,  # not allowed with active_processes
      multiprocessing_options=_alone(),
    )
    return ocp.CheckpointManager(self.directory, options=options)


def read_weights(
  directory: str | pathlib.Path, step: int | None = None, *, ema: bool = True
) -> checkpoint_files.Weights:
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
  steps = checkpoint_files.steps(directory) if step is None else [step]
  reasons = []
  for number in steps:
    try:
      path = directory / str(number)
      return checkpoint_files.read_weights(path, ema, _read_arrays)
    except manifest_lib.DamagedError as error:
      reasons.append(f'{number}: {error}')
      _log.warning('checkpoint %s is not used: %s', path, error)
  why = '; '.join(reasons) or 'it holds none'
  raise errors.UserError(f'no checkpoint to read in {directory} ({why})')


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
    with _reader() as reader:
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
  return ocp.options.MultiprocessingOptions(own, {own})


def _reader() -> ocp.Checkpointer:
  _hush_orbax()
  handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone())
  return ocp.Checkpointer(handler, multiprocessing_options=_alone())


@functools.cache
def _hush_orbax() -> None:
  """Keeps tracebacks of what is raised anyway off the terminal.

  Orbax logs each error of its threads, and after the first bad array it closes
  the event loop that its other reads and writes are still to report to.
  """
  logger = logging.getLogger('absl')
  logger.addFilter(lambda record: 'orbax' not in record.pathname)
  previous = sys.unraisablehook

  def hook(unraisable: Any) -> None:
    if 'Event loop is closed' not in str(unraisable.exc_value):
      previous(unraisable)

  sys.unraisablehook = hook
