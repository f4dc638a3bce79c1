"""TensorBoard's event file."""

import pathlib
import socket
import time
from collections.abc import Mapping

from tensorboardX import record_writer
from tensorboardX.proto import event_pb2, summary_pb2

_FLUSH_SECONDS = 30.0


class EventFile:
  """Writes scalars to a new event file, in the calling thread.

  tensorboardX's own `SummaryWriter` writes in a thread. If that thread dies,
  for example because the disk is full, the next calls wait for it forever.
  """

  def __init__(self, folder: pathlib.Path, start_step: int) -> None:
    """Creates a file for the steps after `start_step`.

    Args:
      folder: the log folder, created if missing.
      start_step: TensorBoard hides later steps of older files in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f'events.out.tfevents.{int(time.time())}.{socket.gethostname()}'
    self._file = record_writer.RecordWriter(str(folder / name))
    self._flushed = time.monotonic()
    purge = start_step + 1
    session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._add(event_pb2.Event(file_version='brain.Event:2'))
    self._add(event_pb2.Event(step=purge, file_version='brain.Event:2'))
    self._add(event_pb2.Event(step=purge, session_log=session))

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Adds the scalars of one step.

    They may stay in memory until the first call after 30 s, or `sync`.
    """
    for name, value in scalars.items():
      # As tensorboardX's `summary.scalar`, which logs a warning about a NaN.
      scalar = summary_pb2.Summary.Value(tag=name, simple_value=value)
      summary = summary_pb2.Summary(value=[scalar])
      self._add(event_pb2.Event(step=step, summary=summary))
    if time.monotonic() >= self._flushed + _FLUSH_SECONDS:
      self.sync()

  def sync(self) -> None:
    """Waits until all events are on disk."""
    self._file.flush()
    self._flushed = time.monotonic()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _add(self, event: event_pb2.Event) -> None:
    event.wall_time = time.time()
    self._file.write(event.SerializeToString())
