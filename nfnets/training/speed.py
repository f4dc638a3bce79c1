"""Measures the speed of training from outside."""

import time


class Clock:
  """Measures steps per second between reports.

  The results of a step are read some steps later, so several of them can be
  read in an instant. Steps therefore count when they are known to be finished,
  not when they are read. The time before the first one counts nowhere: it is
  spent on compiling.
  """

  def __init__(self) -> None:
    """Creates a clock that starts with the first finished step."""
    self.steps_per_second = 0.0
    self._start: float | None = None
    self._first = 0  # the last step finished at `_start`
    self._latest = 0.0
    self._done = 0  # the last step finished at `_latest`

  def tick(self, done: int) -> None:
    """Records that step `done` and all before it are finished."""
    now = time.perf_counter()
    if self._start is None:
      self._start, self._first = now, done
    elif done <= self._done:
      return
    else:
      seconds = max(now - self._start, 1e-9)
      self.steps_per_second = (done - self._first) / seconds
    self._latest, self._done = now, done

  def restart(self) -> None:
    """Measures from the last finished step on.

    `steps_per_second` keeps its value until another step is finished.
    """
    self._start, self._first = self._latest, self._done

  def skip(self, seconds: float) -> None:
    """Excludes the last `seconds`."""
    if self._start is not None:
      self._start += seconds
      self._latest += seconds
