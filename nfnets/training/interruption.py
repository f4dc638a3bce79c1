"""SIGTERM and Ctrl-C as a question that the loop asks between two steps."""

import os
import signal
import types
from typing import Self

import jax
from jax.experimental import multihost_utils


class Interruption:
  """A context in which a signal asks the run to save and leave.

  The signals interrupt nothing by themselves, so that a second one during the
  save lets it finish; SIGKILL stops at once, and loses only the steps since
  the last checkpoint. Outside the context they do what they did before.

  With `jax.distributed` the runtime catches SIGTERM on whichever machine gets
  it, and all processes agree on the poll that answers yes; Ctrl-C is passed on
  as SIGTERM. So every process must poll equally often.

  Attributes:
    stopping: whether a poll has answered yes.
  """

  def __init__(self) -> None:
    self._signal: int | None = None
    self.stopping = False
    self._polls = 0
    self._distributed = jax.distributed.is_initialized()
    self._previous: dict[int, object] = {}

  def __enter__(self) -> Self:
    # A Python handler for SIGTERM would take the runtime's place.
    own = [signal.SIGINT] if self._distributed else _SIGNALS
    self._previous = {s: signal.signal(s, self._handle) for s in own}
    return self

  def __exit__(self, *_: object) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)  # type: ignore[arg-type]

  def poll(self) -> bool:
    """Whether to save and leave now; once yes, always yes."""
    if not self.stopping:
      self._polls += 1
      self.stopping = (
        multihost_utils.reached_preemption_sync_point(self._polls)
        if self._distributed
        else self._signal is not None
      )
    return self.stopping

  @property
  def exit_status(self) -> int:
    """130 after Ctrl-C, 143 after SIGTERM (128 + the signal), else 0."""
    if not self.stopping:
      return 0
    return 128 + (self._signal or signal.SIGTERM)

  def _handle(self, number: int, frame: types.FrameType | None) -> None:
    del frame
    first = self._signal is None
    self._signal = self._signal or number
    if self._distributed and first:
      os.kill(os.getpid(), signal.SIGTERM)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
