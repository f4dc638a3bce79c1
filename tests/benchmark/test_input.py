"""The benchmark of the input pipeline."""

import json
import math
import sys

import numpy as np
import pytest

from nfnets.benchmark import input as input_benchmark
from nfnets.benchmark import input_peers
from nfnets.data import images


def test_photographs_have_the_usual_size_of_imagenet(tmp_path):
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


def test_measures_ours_and_shows_why_peers_are_missing(monkeypatch):
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


@pytest.mark.parametrize('answers', [0, 1, 2])
def test_peer_that_exits_is_shown_with_a_reason(answers, monkeypatch, tmp_path):
  monkeypatch.setattr(input_benchmark, '_NUM_FILES', 8)
  python = tmp_path / 'python'
  answer = 'read -r line\necho 0.001\n' * answers
  python.write_text(f'#!/bin/sh\n{answer}echo out of memory >&2\nexit 1\n')
  python.chmod(0o755)
  rates = input_benchmark.measure(
    image_size=32,
    batch_size=4,
    num_threads=2,
    rounds=1,
    seconds=0.01,
    peer_python=str(python),
  )
  reason = 'it exited during the measurement' if answers else 'out of memory'
  rows = input_benchmark.lines(rates)
  for peer in input_peers.PEERS:
    assert f'{peer:12} not measured: {reason}' in rows


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


def test_record_of_a_missing_rate_is_json():
  missing = input_benchmark.Rate('tf.data', float('nan'), 'no module')
  text = json.dumps(input_benchmark.record(missing), allow_nan=False)
  assert json.loads(text)['images_per_second'] is None


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
