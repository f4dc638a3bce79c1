"""The process that reads the inputs of one reader, and may die of it."""

import importlib
import logging
import os
import pathlib
import pickle
import random
import tempfile
import traceback
from multiprocessing import connection

from tests.fuzz import judge, mutate

Job = int | mutate.Tree
"""The number of an input to make, or the input itself."""


def load(name: str) -> judge.Reader:
  """Returns the reader 'module:attribute'."""
  module, _, attribute = name.partition(':')
  return getattr(importlib.import_module(module), attribute)


def make_input(
  reader: judge.Reader, seeds: list[mutate.Tree], key: str
) -> mutate.Tree:
  """Returns the input that a key determines."""
  rng = random.Random(key)
  seed = rng.choice(seeds)
  return mutate.mutated(seed, reader.paths(seed), rng)


def serve(
  pipe: connection.Connection, name: str, seed: int, last: pathlib.Path
) -> None:
  """Reads inputs until the pipe is closed.

  Args:
    pipe: receives jobs and sends their outcomes.
    name: see `load`.
    seed: the seed of all inputs.
    last: where to store each input before it is read.
  """
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  logging.disable(logging.WARNING)
  output = _catch_output()
  memory = '/dev/shm'
  with tempfile.TemporaryDirectory(
    dir=memory if os.path.isdir(memory) else None
  ) as scratch:
    os.environ['XDG_CACHE_HOME'] = f'{scratch}/cache'
    folder = pathlib.Path(scratch, 'input')
    try:
      reader = load(name)
      seeds = reader.seeds()
      # The first read imports libraries, which takes time and memory.
      pipe.send(judge.warm_up(reader, seeds[0], folder))
    except BaseException:
      pipe.send(('finding', traceback.format_exc()))
      return
    while (job := _receive(pipe)) is not None:
      tree: mutate.Tree = (
        make_input(reader, seeds, f'{seed} {name} {job}')
        if isinstance(job, int)
        else {**seeds[0], **job}
      )
      last.write_bytes(pickle.dumps(tree))
      outcome = judge.run(reader, tree, folder)
      pipe.send(_with_output(outcome, output))


def _receive(pipe: connection.Connection) -> Job | None:
  try:
    return pipe.recv()
  except EOFError:
    return None


def _catch_output() -> int:
  """Redirects stdout and stderr to a file, and returns it."""
  with tempfile.TemporaryFile() as file:
    for descriptor in (1, 2):
      os.dup2(file.fileno(), descriptor)
    return os.dup(file.fileno())


def _with_output(outcome: tuple[str, str], output: int) -> tuple[str, str]:
  """Turns a traceback that was printed instead of raised into a finding."""
  size = os.fstat(output).st_size
  if not size:
    return outcome
  text = os.pread(output, min(size, 10_000), 0).decode(errors='replace')
  os.ftruncate(output, 0)
  os.lseek(output, 0, os.SEEK_SET)
  if outcome[0] != 'finding' and 'Traceback' in text:
    return 'finding', f'prints a traceback:\n{text}'
  return outcome
