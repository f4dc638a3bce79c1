"""Reports of a run: metrics.jsonl, TensorBoard and the terminal."""

import contextlib
import datetime
import logging
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, Protocol, TextIO, TypeVar

import rich.console
import rich.progress

from nfnets.training import devices, event_file, metrics_file, speed
from nfnets.training import workdir as workdir_lib

_log = logging.getLogger(__name__)
_SHORT = 10  # seconds; shorter runs print no estimate
_LONG = 86400  # seconds; longer runs print `shorter` too
# Ends of the names of metrics that the terminal does not show.
_DETAILS = ('_low', '_high', '_precision', '_recall', '_f1', '_ece', '/ece')


class Reporter:
  """Writes scalars to all three; does nothing outside process 0.

  A report that cannot be written, for example because the disk is full, does
  not end the run: a warning is logged once, and the run continues without this
  report.
  """

  def __init__(
    self,
    workdir: str | pathlib.Path,
    *,
    total_steps: int,
    images_per_step: int,
    start_step: int = 0,
    shorter: str = '',
    stream: TextIO | None = None,
  ) -> None:
    """Opens the metrics file and the TensorBoard log in the workdir.

    Args:
      workdir: the run's workdir.
      total_steps: number of steps of the whole run.
      images_per_step: training examples per step on all devices, for images/s.
      start_step: the step to resume from; reports of later steps are dropped.
      shorter: how to shorten a run; printed if it will take more than a day.
      stream: where to print: a progress bar to a terminal, else plain lines.
        None is standard output.
    """
    self._active = devices.is_primary()
    if not self._active:
      return
    workdir = pathlib.Path(workdir)
    metrics = workdir / workdir_lib.METRICS
    self._file = _Report(
      str(metrics), lambda: metrics_file.MetricsFile(metrics, start_step)
    )
    events = workdir / workdir_lib.TENSORBOARD
    self._tensorboard = _Report(
      str(events), lambda: event_file.EventFile(events, start_step)
    )
    self._terminal = _Report(
      'the output',
      lambda: _terminal(stream or sys.stdout, total_steps, start_step),
    )
    self._clock = speed.Clock()
    self._images_per_step = images_per_step
    self._total_steps = total_steps
    self._shorter = shorter
    self._estimated = False

  def progress(self, step: int, loss: float, done: int = 0) -> None:
    """Updates the bar; call it once for every finished step.

    Args:
      step: the step.
      loss: its loss.
      done: the last step known to be finished, if it is a later one.
    """
    if self._active:
      self._clock.tick(max(step, done))
      rate = self._clock.steps_per_second
      images = self._images_per_step * rate
      self._terminal.use(
        lambda terminal: terminal.move(step, loss, images, rate)
      )
      if rate and not self._estimated:
        self._estimated = True
        self._estimate(self._total_steps - step, rate)

  def _estimate(self, steps: int, rate: float) -> None:
    """Prints how long the rest of the run will take, if it takes long."""
    seconds = steps / rate
    text = f'about {_duration(seconds)} left for {steps:,} steps'
    if seconds > _LONG:
      self.message(f'{text}; {self._shorter}')
    elif seconds > _SHORT:
      self.message(text)

  def speed(self) -> dict[str, float]:
    """Returns {'images_per_second': ...} since the last call, without pauses.

    {} before the second step: the first one's time is spent on compiling.
    """
    if not self._active or not self._clock.steps_per_second:
      return {}
    self._clock.restart()
    rate = self._clock.steps_per_second
    return {'images_per_second': self._images_per_step * rate}

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Excludes the time spent inside from the training speed."""
    start = time.perf_counter()
    yield
    if self._active:
      self._clock.skip(time.perf_counter() - start)

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Records the scalars of one step, with names such as 'train/loss'."""
    if not self._active:
      return
    self._file.use(lambda file: file.write(step, scalars))
    self._tensorboard.use(lambda events: events.write(step, scalars))
    self._terminal.use(lambda terminal: terminal.line(step, scalars))

  def message(self, text: str) -> None:
    """Prints a line above the bar."""
    if self._active:
      self._terminal.use(lambda terminal: terminal.message(text))

  def sync(self) -> None:
    """Waits until all scalars are on disk, in the files that can be written."""
    if self._active:
      self._file.use(lambda file: file.sync())
      self._tensorboard.use(lambda events: events.sync())

  def close(self) -> None:
    """Stops the bar and closes the files."""
    if self._active:
      self._terminal.use(lambda terminal: terminal.close())
      self._file.use(lambda file: file.close())
      self._tensorboard.use(lambda events: events.close())


class _Closable(Protocol):
  def close(self) -> None: ...


_R = TypeVar('_R', bound=_Closable)


class _Report(Generic[_R]):
  """A report that is dropped, with a warning, once it cannot be written."""

  def __init__(self, what: str, create: Callable[[], _R]) -> None:
    self._what = what
    self._report: _R | None = None
    try:
      self._report = create()
    except (OSError, ValueError) as error:
      self._warn(error)

  def use(self, call: Callable[[_R], None]) -> None:
    """Calls `call` with the report, unless it was dropped."""
    if self._report is None:
      return
    try:
      call(self._report)
    except (OSError, ValueError) as error:
      # A full disk, or text that the terminal's encoding does not have.
      with contextlib.suppress(OSError, ValueError):
        self._report.close()
      self._report = None
      self._warn(error)

  def _warn(self, error: OSError | ValueError) -> None:
    _log.warning(
      '%s cannot be written (%s): the run continues without it until it is'
      ' restarted',
      self._what,
      getattr(error, 'strerror', None) or error,
    )


class _Bar:
  """A progress bar with step, loss, images/s and time left."""

  def __init__(
    self, console: rich.console.Console, total_steps: int, start_step: int
  ) -> None:
    columns = (
      rich.progress.TextColumn('step {task.completed}/{task.total}'),
      rich.progress.BarColumn(),
      rich.progress.TextColumn('{task.fields[measured]}'),
      rich.progress.TimeRemainingColumn(),
    )
    self._total_steps = total_steps
    self._progress = rich.progress.Progress(*columns, console=console)
    self._task = self._progress.add_task(
      '', total=total_steps, completed=start_step, measured=''
    )
    self._progress.start()

  def move(self, step: int, loss: float, speed: float, rate: float) -> None:
    del rate  # rich measures it
    measured = f'loss {loss:.4f}' + (f' {speed:.0f} images/s' if speed else '')
    self._progress.update(self._task, completed=step, measured=measured)

  def line(self, step: int, scalars: Mapping[str, float]) -> None:
    if any(name.startswith('eval/') for name in scalars):
      self.message(_text(step, self._total_steps, scalars))

  def message(self, text: str) -> None:
    # Not wrapped: paths can be copied.
    self._progress.console.print(text, soft_wrap=True)

  def close(self) -> None:
    self._progress.stop()


class _Lines:
  """Plain lines, for files and pipes."""

  def __init__(self, stream: TextIO, total_steps: int) -> None:
    self._stream = stream
    self._total_steps = total_steps
    self._left = ''

  def move(self, step: int, loss: float, speed: float, rate: float) -> None:
    del loss, speed  # printed by `line`
    if rate:
      seconds = round((self._total_steps - step) / rate)
      self._left = f', {datetime.timedelta(seconds=seconds)} left'

  def line(self, step: int, scalars: Mapping[str, float]) -> None:
    left = self._left if 'images_per_second' in scalars else ''
    self.message(_text(step, self._total_steps, scalars) + left)

  def message(self, text: str) -> None:
    print(text, file=self._stream, flush=True)

  def close(self) -> None:
    pass


def _terminal(
  stream: TextIO, total_steps: int, start_step: int
) -> _Bar | _Lines:
  # Names are printed as they are, such as 'photo[copy].jpg' and ':cat:'.
  plain = {'markup': False, 'emoji': False, 'highlight': False}
  console = rich.console.Console(file=stream, **plain)
  if console.is_terminal:
    return _Bar(console, total_steps, start_step)
  return _Lines(stream, total_steps)


def _text(step: int, total_steps: int, scalars: Mapping[str, float]) -> str:
  """Formats scalars as one line, the loss first."""
  shown = [(k, x) for k, x in scalars.items() if not k.endswith(_DETAILS)]
  named = dict(sorted(shown, key=lambda x: 'loss' not in x[0]))
  speed = named.pop('images_per_second', None)
  values = [f'{k.removeprefix("train/")} {x:.4g}' for k, x in named.items()]
  if speed is not None:
    values.append(f'{speed:.0f} images/s')
  return f'step {step}/{total_steps}: {", ".join(values)}'


def _duration(seconds: float) -> str:
  """Formats a length of time with two digits or so."""
  for unit, length in (('days', 86400), ('h', 3600), ('min', 60)):
    if seconds >= length:
      return f'{seconds / length:.1f} {unit}'
  return f'{seconds:.0f} s'
