"""Runs a reader on inputs in another process, and stores findings."""

import itertools
import multiprocessing
import pathlib
import pickle
import re
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

from tests.fuzz import judge, mutate, worker

CORPUS = pathlib.Path(__file__).parent / 'corpus'
"""A folder per reader, with a folder per input: files that were once found.

They replace or add files of the reader's first seed.
"""

# The worker interrupts Python itself; this is for compiled code.
_GRACE = 3.0
_START_SECONDS = 120.0
_MAX_FINDINGS = 20  # Of one reader: more would be repetitions.


class Counts(NamedTuple):
  """What became of a reader's inputs.

  Attributes:
    inputs: number of all inputs.
    read: number of those that were read as if they were intact.
    refused: number of those that were refused in one sentence.
    seconds: duration.
    findings: the folders of the others.
  """

  inputs: int
  read: int
  refused: int
  seconds: float
  findings: list[pathlib.Path]


class Process:
  """A worker that is started again when it dies."""

  def __init__(self, reader: str, seed: int) -> None:
    self._reader, self._seed = reader, seed
    self._folder = tempfile.TemporaryDirectory()
    self._last = pathlib.Path(self._folder.name, 'input')
    self._process: multiprocessing.process.BaseProcess | None = None
    self._start()

  def run(self, job: worker.Job) -> tuple[str, str]:
    """Reads one input; see `judge.run`."""
    if self._process is None:
      self._start()
    self._pipe.send(job)
    outcome = self._answer(judge.SECONDS + _GRACE)
    if outcome[1].startswith('takes more than'):
      self._stop()  # It was interrupted anywhere.
    return outcome

  def last_input(self) -> mutate.Tree:
    """Returns the input that was read last."""
    return pickle.loads(self._last.read_bytes())

  def close(self) -> None:
    """Ends the process."""
    self._stop()
    self._folder.cleanup()

  def _start(self) -> None:
    context = multiprocessing.get_context('spawn')
    self._pipe, end = context.Pipe()
    self._process = context.Process(
      target=worker.serve,
      args=(end, self._reader, self._seed, self._last),
      daemon=True,
    )
    self._process.start()
    end.close()
    kind, why = self._answer(_START_SECONDS)
    if kind != 'read':
      raise RuntimeError(f'{self._reader} does not read its seed: {why}')

  def _answer(self, seconds: float) -> tuple[str, str]:
    assert self._process is not None
    try:
      if self._pipe.poll(seconds):
        return self._pipe.recv()
      reason = f'hangs for {seconds:g} s'
    except (EOFError, ConnectionResetError):
      self._process.join(5)
      reason = f'crashes with status {self._process.exitcode}'
    self._stop()
    return 'finding', reason

  def _stop(self) -> None:
    if self._process is not None:
      self._pipe.close()
      self._process.kill()
      self._process.join()
      self._process = None


def corpus(name: str) -> dict[str, mutate.Tree]:
  """Returns the inputs of a reader that were once found, by their names."""
  folders = sorted((CORPUS / name).glob('*'))
  return {folder.name: read_tree(folder) for folder in folders}


def read_tree(folder: pathlib.Path) -> mutate.Tree:
  """Returns the files below a folder by their relative paths."""
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def run(
  name: str,
  reader: str,
  seconds: float,
  seed: int,
  findings: pathlib.Path,
) -> Counts:
  """Gives inputs to a reader: what was once found, then mutated seeds.

  Args:
    name: the reader's name.
    reader: see `worker.load`.
    seconds: duration of the second part.
    seed: seed of the mutations.
    findings: folder for the inputs that are findings.
  """
  counts = {'read': 0, 'refused': 0, 'finding': 0}
  stored: list[pathlib.Path] = []
  process = Process(reader, seed)
  start = time.monotonic()
  numbers = _numbers(seconds)
  try:
    for job in itertools.chain(corpus(name).values(), numbers):
      kind, why = process.run(job)
      if kind == 'finding':
        # A machine under load may be slow once.
        kind, why = process.run(process.last_input())
      counts[kind] += 1
      if kind == 'finding':
        folder = findings / f'{name}-{counts["finding"]}'
        _store(folder, process.last_input(), why)
        stored.append(folder)
        if len(stored) == _MAX_FINDINGS:
          break
  finally:
    process.close()
  seconds = time.monotonic() - start
  inputs = sum(counts.values())
  return Counts(inputs, counts['read'], counts['refused'], seconds, stored)


def _numbers(seconds: float) -> Iterator[int]:
  """Yields 0, 1, 2, ... until the time since the first one is over."""
  end = time.monotonic() + seconds
  number = 0
  while time.monotonic() < end:
    yield number
    number += 1


def _store(folder: pathlib.Path, tree: mutate.Tree, why: str) -> None:
  for name, data in tree.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
  folder.with_suffix('.txt').write_text(why)


def summary(why: str) -> str:
  """Returns the most informative line of a finding."""
  lines = [line for line in why.splitlines() if re.match(r'\S', line)]
  return lines[-1][:200] if lines else why[:200]
