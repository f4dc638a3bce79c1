"""Performs the runs of a study, one after another, and resumes it."""

import datetime
import gc
import math
import pathlib
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import jax
import rich.console
import rich.progress

from nfnets import errors
from nfnets.experiment import checks
from nfnets.runtime import compilation, platforms
from nfnets.studies import results
from nfnets.training import workdir as workdir_lib

# (run, its folder, folder of the run that it starts from or None) -> numbers.
# Numbers that are not finite, or a `Diverged` error, are a result too.
Perform: TypeAlias = Callable[
  [results.Run, pathlib.Path, pathlib.Path | None], Mapping[str, float]
]
# Draws the figure of the study so far.
Draw: TypeAlias = Callable[[Sequence[results.Result], pathlib.Path], None]
# Formats the tables of a study.
Describe: TypeAlias = Callable[[Sequence[results.Result]], str]

_RUNS = 'runs'


class Diverged(Exception):
  """A run ended in numbers that are not finite."""

  def __init__(self, numbers: Mapping[str, float]) -> None:
    """Stores what it measured before, such as the step."""
    super().__init__(f'diverged: {numbers}')
    self.numbers = numbers


class Interrupted(Exception):
  """A signal ended a run, which has saved a checkpoint."""

  def __init__(self, status: int) -> None:
    """Stores the exit status of the program."""
    super().__init__(f'interrupted with status {status}')
    self.status = status


def study(
  runs: Sequence[results.Run],
  out: pathlib.Path,
  perform: Perform,
  describe: Describe,
  draw: Draw,
  check: Callable[[results.Run], None] | None = None,
) -> int:
  """Performs the runs that have not ended, prints the table, draws the figure.

  Kill it at any moment: rerunning it resumes the run that was killed from its
  latest checkpoint, and repeats none that has ended.

  Args:
    runs: all runs of the study, in order.
    out: the study's folder.
    perform: performs a run.
    describe: formats the results as tables.
    draw: draws the figure, after each run.
    check: called with every run before the first one is performed, and after
      JAX is set up.

  Returns:
    The exit status: 0, or that of an interrupted run.

  Raises:
    UserError: a run failed; settings are wrong; the folder holds a study with
      other settings, or another process uses it.
  """
  for run in runs:
    checks.from_changes(run.settings)  # An error before the first run.
  compilation.prepare()
  platforms.check()
  if check is not None:
    for run in runs:
      check(run)
  with workdir_lib.claim(out, '--out') as folder:
    path = folder / results.FILE
    found = results.read(path)
    results.check_same(runs, found, path)
    try:
      with _progress(len(runs)) as progress:
        for index, run in enumerate(runs):
          if run.name not in found:
            progress.start(run, index, [x.seconds for x in found.values()])
            found[run.name] = _make(run, folder, found, perform)
            results.append(path, run.name, found[run.name])
            draw(_ended(runs, found), folder)
          _remove_checkpoints(run, folder)
    except Interrupted as interruption:
      print('interrupted: rerun the command to resume', file=sys.stderr)
      return interruption.status
    draw(_ended(runs, found), folder)
  print(describe(_ended(runs, found)))
  print(f'\nresults: {path}')
  return 0


def _ended(
  runs: Sequence[results.Run], found: Mapping[str, results.Result]
) -> list[results.Result]:
  return [found[run.name] for run in runs if run.name in found]


def _make(
  run: results.Run,
  out: pathlib.Path,
  found: Mapping[str, results.Result],
  perform: Perform,
) -> results.Result:
  """Performs a run, unless the one that it starts from has diverged."""
  begin = time.monotonic()
  numbers: Mapping[str, float] = {}
  diverged = bool(run.start) and found[run.start].diverged
  if not diverged:
    before = out / _RUNS / run.start if run.start else None
    try:
      numbers = perform(run, out / _RUNS / run.name, before)
      diverged = not all(map(math.isfinite, numbers.values()))
    except Diverged as end:
      numbers, diverged = end.numbers, True
    # Each run has programs of its own.
    jax.clear_caches()
    gc.collect()
  return results.Result(
    run.labels,
    {k: x for k, x in numbers.items() if math.isfinite(x)},
    diverged,
    time.monotonic() - begin,
    results.changed_settings(run),
  )


def _remove_checkpoints(run: results.Run, out: pathlib.Path) -> None:
  """Removes the checkpoints of a run that has ended, which nothing needs."""
  folder = out / _RUNS / run.name / workdir_lib.CHECKPOINTS
  shutil.rmtree(folder, ignore_errors=True)


class _Progress(Protocol):
  """Shows which run is being performed."""

  def __enter__(self) -> '_Progress': ...

  def __exit__(self, *error: object) -> None: ...

  def start(
    self, run: results.Run, index: int, seconds: Sequence[float]
  ) -> None:
    """Shows a run, given its index and the seconds of earlier ones."""


def _progress(total: int) -> _Progress:
  """Creates a bar on a terminal, else lines; on the standard error."""
  console = rich.console.Console(
    file=sys.stderr, markup=False, emoji=False, highlight=False
  )
  return _Bar(console, total) if console.is_terminal else _Lines(total)


class _Bar:
  """A progress bar over the runs, with the time left."""

  def __init__(self, console: rich.console.Console, total: int) -> None:
    self._total = total
    self._progress = rich.progress.Progress(
      rich.progress.BarColumn(),
      rich.progress.TextColumn('{task.description}', markup=False),
      rich.progress.TimeElapsedColumn(),
      console=console,
      # The output of a run goes to its own file.
      redirect_stdout=False,
      redirect_stderr=False,
    )
    self._task = self._progress.add_task('', total=total)

  def __enter__(self) -> '_Bar':
    self._progress.start()
    return self

  def __exit__(self, *error: object) -> None:
    self._progress.stop()

  def start(
    self, run: results.Run, index: int, seconds: Sequence[float]
  ) -> None:
    text = _text(run, index, self._total, seconds)
    self._progress.update(self._task, completed=index, description=text)


class _Lines:
  """A line per run, for files and pipes."""

  def __init__(self, total: int) -> None:
    self._total = total

  def __enter__(self) -> '_Lines':
    return self

  def __exit__(self, *error: object) -> None:
    pass

  def start(
    self, run: results.Run, index: int, seconds: Sequence[float]
  ) -> None:
    text = _text(run, index, self._total, seconds)
    print(text, file=sys.stderr, flush=True)


def _text(
  run: results.Run, index: int, total: int, seconds: Sequence[float]
) -> str:
  """Describes a run: 'run 3/12: batch 64, seed 0, 0:05:00 left'."""
  labels = ', '.join(f'{key} {value}' for key, value in run.labels.items())
  text = f'run {index + 1}/{total}: {labels}'
  if seconds:
    left = round(statistics.fmean(seconds) * (total - index))
    text += f', about {datetime.timedelta(seconds=left)} left'
  return errors.printable(text)
