import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from nfnets.benchmark import input as input_benchmark
from nfnets.benchmark import input_peers
from nfnets.data import images


def test_photographs_are_imagenet_s_usual_size(tmp_path):
  input_benchmark.write_photographs(tmp_path)
  paths = sorted(tmp_path.rglob('*.jpg'))
  assert len(paths) == 256
  sizes = {images.jpeg_size(path.read_bytes()) for path in paths}
  assert sizes == {(375, 500)}
  mean = np.mean([path.stat().st_size for path in paths])
  assert 70e3 < mean < 110e3
  again = tmp_path / 'again'
  input_benchmark.write_photographs(again)
  first = paths[0].relative_to(tmp_path)
  assert (again / first).read_bytes() == paths[0].read_bytes()


def test_measures_ours_and_says_why_peers_are_missing(monkeypatch):
  monkeypatch.setattr(input_benchmark, '_NUM_FILES', 8)
  rates = input_benchmark.measure(
    image_size=32,
    batch_size=4,
    num_threads=2,
    rounds=1,
    seconds=0.01,
    peer_python='/nowhere/python',
  )
  found = {rate.name: rate for rate in rates}
  assert list(found)[:2] == [input_benchmark.CEILING, 'nfnets']
  assert found['nfnets'].images_per_second > 0
  for peer in input_peers.PEERS:
    assert math.isnan(found[peer].images_per_second)
    assert 'No such file' in found[peer].reason


def test_lines_compare_with_ours():
  rates = [
    input_benchmark.Rate('ceiling', 1000.0),
    input_benchmark.Rate('nfnets', 900.0),
    input_benchmark.Rate('tf.data', float('nan'), 'no module'),
  ]
  assert input_benchmark.lines(rates) == [
    'ceiling         1000 images/s   nfnets is  0.90 times as fast',
    'nfnets           900 images/s   nfnets is  1.00 times as fast',
    'tf.data      not measured: no module',
  ]


@pytest.mark.parametrize('peer', input_peers.PEERS)
@pytest.mark.slow
def test_peers_make_batches_of_crops(peer, tmp_path, monkeypatch):
  library = {'tf.data': 'tensorflow', 'pillow': 'PIL', 'data_loader': 'torch'}
  pytest.importorskip(library[peer])
  monkeypatch.setattr(input_benchmark, '_NUM_FILES', 8)
  input_benchmark.write_photographs(tmp_path)
  paths = [str(path) for path in pathlib.Path(tmp_path).rglob('*.jpg')]
  # In a process of its own, as in the benchmark: torch's workers are forks,
  # which JAX in this one forbids.
  program = """
import sys
import numpy as np
from nfnets.data import benchmark_peers
make = input_peers.PEERS[sys.argv[1]]
batch = np.asarray(next(make(sys.argv[2:], 4, 48, 1)))
assert batch.shape == (4, 48, 48, 3), batch.shape
assert batch.dtype == np.uint8, batch.dtype
assert len({image.tobytes() for image in batch}) > 1
"""
  subprocess.run(
    [sys.executable, '-c', program, peer, *paths], check=True, timeout=120
  )


@pytest.mark.slow
def test_a_peer_answers_through_its_process(monkeypatch):
  monkeypatch.setattr(input_benchmark, '_NUM_FILES', 8)
  rates = input_benchmark.measure(
    image_size=32,
    batch_size=4,
    rounds=1,
    seconds=0.01,
    peer_python=f'/nowhere/python,{sys.executable}',
  )
  pillow = next(rate for rate in rates if rate.name == 'pillow')
  assert pillow.images_per_second > 0
