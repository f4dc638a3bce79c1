"""Checkpoints on disk: written in the background, verified when read.

Only this file and checkpoint_arrays.py import Orbax. Process 0 alone reads and
writes, and broadcasts what it read. A checkpoint appears under its step number
only when it is complete, so a run killed while saving resumes from the one
before.
Layout of `<directory>/<step>/`: `state` (Orbax's arrays under flat names such
as 'params/NFNet/~/linear/w'), `manifest` (see manifest.py) and `metrics`.
"""

import json
import logging
import pathlib
from typing import NamedTuple

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from nfnets import errors
from nfnets.training import checkpoint_arrays, checkpoint_files, devices
from nfnets.training import dataset as dataset_lib
from nfnets.training import manifest as manifest_lib
from nfnets.training import state as state_lib

_log = logging.getLogger(__name__)


class Restored(NamedTuple):
  """A checkpoint that was read.

  Attributes:
    state: the train state as numpy arrays; see `devices.replicate`.
    step: its step number.
    metrics: evaluation metrics at that step; {} for one saved on exit.
    config: the settings of the run that wrote it.
  """

  state: state_lib.TrainState
  step: int
  metrics: dict[str, float]
  config: manifest_lib.Settings | None


class Checkpointer:
  """Saves and restores the train state of one run.

  Every process calls every method, at the same step.
  """

  def __init__(
    self,
    directory: str | pathlib.Path,
    *,
    keep: int = 3,
    config: manifest_lib.Settings | None = None,
    dataset: dataset_lib.Dataset | None = None,
  ) -> None:
    """Opens a directory of checkpoints.

    Args:
      directory: created if missing; used by one run at a time
        (`workdir.claim`).
      keep: number of latest checkpoints to keep. The one with the highest
        'eval/top1' is kept as well.
      config: settings to store in each checkpoint, as JSON.
      dataset: the run's data, to store likewise and to compare on restoring.
    """
    self.directory = pathlib.Path(directory).absolute()
    self._keep = keep
    self._config = config
    self._dataset = dataset
    self._saved: int | None = None
    self._manager: ocp.CheckpointManager | None = None
    if devices.is_primary():
      checkpoint_files.open_directory(self.directory)

  @property
  def latest_step(self) -> int | None:
    """The step of the latest checkpoint saved or restored here."""
    return self._saved

  def restore_latest(self, target: state_lib.TrainState) -> Restored | None:
    """Reads the latest intact checkpoint.

    A damaged one is moved aside (renamed, not removed) with a warning, and the
    one before it is tried.

    Args:
      target: a train state; only its structure, shapes and dtypes matter.

    Returns:
      The checkpoint, or None if there is none yet.

    Raises:
      UserError: there are checkpoints but none is intact, or the newest intact
        one does not fit the target or was trained on other data.
    """
    found, error = None, ''
    if devices.is_primary():
      try:
        found = checkpoint_files.newest_intact(
          self.directory,
          target,
          self._dataset,
          checkpoint_arrays.read,
          checkpoint_arrays.check_metadata,
        )
      except errors.UserError as caught:
        error = str(caught)
    header = found and (found.step, found.metrics, found.config)
    text = devices.broadcast_text(json.dumps([error, header]))
    error, header = json.loads(text)
    if error:
      raise errors.UserError(error)
    if header is None:
      return None
    arrays = found.arrays if found else manifest_lib.zeros(target)
    arrays = devices.broadcast_arrays(arrays)
    self._saved, metrics, config = header
    state = manifest_lib.unflatten(arrays, target)
    return Restored(state, header[0], metrics, config)

  def save(
    self,
    step: int,
    state: state_lib.TrainState,
    metrics: dict[str, float] | None = None,
  ) -> None:
    """Starts writing a checkpoint; returns when `state` may be donated.

    Waits for the previous save first, if it is still running.

    Args:
      step: its step number, above all saved before. Does nothing if it is the
        latest one's.
      state: the train state.
      metrics: evaluation metrics at this step; a checkpoint without them is
        never the best.

    Raises:
      UserError: this save cannot start, or the previous one failed.
    """
    self.wait()
    if step == self._saved:
      return
    if devices.is_primary():
      self._start(step, manifest_lib.host_copy(state), metrics or {})
    self._saved = step

  def wait(self) -> None:
    """Waits until the last save is on disk.

    Raises:
      UserError: the save failed.
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
    """Waits for the last save and stops Orbax's threads.

    Raises:
      UserError: the save failed.
    """
    try:
      self.wait()
    finally:
      if self._manager is not None:
        self._manager.close()
        self._manager = None

  def _start(
    self, step: int, arrays: manifest_lib.Arrays, metrics: dict[str, float]
  ) -> None:
    manifest = manifest_lib.make(
      arrays,
      step=step,
      metrics=metrics,
      config=self._config,
      dataset=self._dataset,
    )
    if self._manager is None:
      self._manager = _open_manager(self.directory, self._keep)
    try:
      started = self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.PyTreeSave(arrays),
          manifest=ocp.args.JsonSave(manifest),
        ),
        metrics=metrics,  # {} if there are none: Orbax warns about None
      )
    except Exception as error:
      raise checkpoint_files.write_error(self.directory, step, error) from error
    if not started:
      raise errors.UserError(
        f'checkpoint {step} is not newer than those in {self.directory}'
      )


def _open_manager(directory: pathlib.Path, keep: int) -> ocp.CheckpointManager:
  checkpoint_arrays.hush_orbax()
  policies = checkpoint_managers.AnyPreservationPolicy(
    [
      checkpoint_managers.LatestN(keep),
      checkpoint_managers.BestN(
        get_metric_fn=checkpoint_files.score,
        n=1,
        keep_checkpoints_without_metrics=False,
      ),
    ]
  )
  options = ocp.CheckpointManagerOptions(
    preservation_policy=policies,
    best_fn=checkpoint_files.score,
    todelete_subdir=checkpoint_files.DELETED,
    create=False,  # not allowed with active_processes
    # If a thread of Orbax cannot create one, others wait for it for 300 s.
    async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
    multiprocessing_options=checkpoint_arrays.this_process_only(),
  )
  try:
    return ocp.CheckpointManager(directory, options=options)
  except Exception as error:  # Orbax's errors have no common base
    reason = ' '.join(str(error).split())[:200]
    raise errors.UserError(
      f'no checkpoint can be added to those in {directory} ({reason}): rerun'
      ' the same command, which moves damaged ones aside'
    ) from error


def read_weights(
  directory: str | pathlib.Path, step: int | None = None, *, ema: bool = True
) -> checkpoint_files.Weights:
  """Reads the weights of a checkpoint, without the optimizer state.

  Changes nothing on disk, so it is safe while the run is training.

  Args:
    directory: the directory of checkpoints.
    step: the checkpoint's step number; None reads the newest intact one.
    ema: whether to read the moving averages, if the run kept them.

  Raises:
    UserError: there is no such checkpoint, or it is damaged.
  """
  directory = pathlib.Path(directory).absolute()
  paths = [directory / str(step)]
  if step is None:
    paths = checkpoint_files.step_folders(directory)
  reasons = []
  for path in paths:
    try:
      return checkpoint_files.read_weights(
        path, ema, checkpoint_arrays.read, checkpoint_arrays.check_metadata
      )
    except manifest_lib.DamagedError as error:
      reasons.append(f'{path.name}: {error}')
      text = errors.printable(f'{path}: {error}')
      _log.warning('skipped damaged checkpoint %s', text)
  why = '; '.join(reasons) or 'it has none'
  raise errors.UserError(
    f'no checkpoint to read in {directory} ({why}): pass the workdir of a run,'
    ' or restore a checkpoint from a backup'
  )
