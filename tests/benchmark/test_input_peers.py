"""Other libraries' input pipelines."""

import ast
import itertools
import pathlib
import subprocess
import sys

import pytest

from nfnets.benchmark import input as input_benchmark
from nfnets.benchmark import input_peers


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setattr(input_benchmark, '_NUM_FILES', 8)
  input_benchmark.write_photographs(tmp_path)
  return tmp_path


def test_file_needs_nothing_of_the_package():
  tree = ast.parse(pathlib.Path(input_peers.__file__).read_text())
  names = {
    name
    for node in ast.walk(tree)
    for name in (
      [alias.name for alias in node.names]
      if isinstance(node, ast.Import)
      else [node.module]
      if isinstance(node, ast.ImportFrom)
      else []
    )
  }
  assert not [name for name in names if name.startswith('nfnets')]


def test_warm_up_batches_are_not_timed(monkeypatch):
  clock = iter([10.0, 13.0])
  monkeypatch.setattr(input_peers.time, 'perf_counter', lambda: next(clock))
  batches = itertools.count()
  assert input_peers.seconds_of(batches, 5) == 3.0
  assert next(batches) == input_peers.WARM_UP + 5


def test_file_answers_every_line(folder):
  pytest.importorskip('PIL')
  command = [sys.executable, input_peers.__file__, 'pillow', str(folder)]
  run = subprocess.run(
    [*command, '2', '32', '1'],
    input='1\n2\n',
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert not run.stderr
  seconds = [float(line) for line in run.stdout.splitlines()]
  assert len(seconds) == 2
  assert min(seconds) > 0


@pytest.mark.parametrize('peer', input_peers.PEERS)
@pytest.mark.slow
def test_peers_yield_batches_of_random_crops(peer, folder):
  library = {'tf.data': 'tensorflow', 'pillow': 'PIL', 'data_loader': 'torch'}
  pytest.importorskip(library[peer])
  paths = [str(path) for path in folder.rglob('*.jpg')]
  # In a process of its own, as in the benchmark: torch forks its workers, and
  # a process that runs JAX must not fork.
  program = """
import sys
import numpy as np
from nfnets.benchmark import input_peers
create = input_peers.PEERS[sys.argv[1]]
batch = np.asarray(next(create(sys.argv[2:], 4, 48, 1)))
assert batch.shape == (4, 48, 48, 3), batch.shape
assert batch.dtype == np.uint8, batch.dtype
assert len({image.tobytes() for image in batch}) > 1
"""
  subprocess.run(
    [sys.executable, '-c', program, peer, *paths], check=True, timeout=120
  )
