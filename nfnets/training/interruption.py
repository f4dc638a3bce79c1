"""SIGTERM, SIGHUP and Ctrl-C as a flag that the loop polls between steps."""

import os
import signal
import types
from typing import Self

import jax
from jax.experimental import multihost_utils

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
  """A context in which a signal asks the run to save and exit.

  The signals themselves interrupt nothing, so a second one during the save
  lets it finish; SIGKILL stops the process immediately and loses only the
  steps since the last checkpoint. Outside the context they do what they did
  before. SIGHUP, which a closing terminal sends, stays ignored under `nohup`.

  With `jax.distributed` its runtime catches SIGTERM on any machine, and all
  processes agree on the poll that returns True; Ctrl-C and SIGHUP are forwarded
  as SIGTERM. So every process must poll equally often.

  Attributes:
    stopping: whether a poll has returned True.
  """

  def __init__(self) -> None:
    self._signal: int | None = None
    self.stopping = False
    self._polls = 0
    self._distributed = jax.distributed.is_initialized()
    self._previous: dict[int, object] = {}

  def __enter__(self) -> Self:
    own = set(_SIGNALS)
    if self._distributed:
      # A Python handler would replace that of the runtime.
      own.remove(signal.SIGTERM)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
      own.remove(signal.SIGHUP)
    self._previous = {s: signal.signal(s, self._handle) for s in own}
    return self

  def __exit__(self, *_: object) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)  # type: ignore[arg-type]

  def poll(self) -> bool:
    """Returns whether to save and exit now; once True, always True."""
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
    """128 + the signal: SIGHUP 129, Ctrl-C 130, SIGTERM 143; else 0."""
    if not self.stopping:
      return 0
    return 128 + (self._signal or signal.SIGTERM)

  def _handle(self, number: int, frame: types.FrameType | None) -> None:
    del frame
    first = self._signal is None
    self._signal = self._signal or number
    if self._distributed and first:
      os.kill(os.getpid(), signal.SIGTERM)
