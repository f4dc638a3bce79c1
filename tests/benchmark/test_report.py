"""Records of the benchmark."""

import contextlib
import json

import pytest

from nfnets import models
from nfnets.analysis import macs
from nfnets.benchmark import programs, report, timing
from nfnets.layers import convolution

_SMALL = {'depth': (1,), 'widths': (16,)}


@pytest.fixture(scope='module')
def record():
  workload = programs.Workload('test_nfnet', 32, 8, 'float32')
  with convolution.lowering('plain'):
    return report.measure(workload, rounds=2, parts=False, **_SMALL)


def test_record_is_consistent_and_json(record):
  record = json.loads(json.dumps(record))
  model = models.create_model('test_nfnet', **_SMALL)
  for name, factor in (('forward', 2), ('train_step', 6)):
    row = record[name]
    flop = factor * 8 * macs.model_macs(model, 32)
    assert row['tflops'] * row['median'] * 1e12 == pytest.approx(flop)
    assert row['images_per_second'] * row['median'] == pytest.approx(8)
    fraction = row['tflops'] / record['peak_tflops']
    assert row['share_of_peak'] == pytest.approx(fraction)
    assert row['best'] <= row['low'] <= row['median'] <= row['high']
    assert row['memory_bytes'] > 0
  assert 'timm' not in record


def test_rates_are_those_of_runs_in_flight():
  taken, flight = timing.summarize([0.5]), timing.summarize([0.25])
  row = report._timing_record(taken, flight)
  program = programs.Program(None, 8e9, 1.0, 2.0, None, '')
  workload = programs.Workload('nfnet_f0', 192, 6, 'float32')
  found = report._program_record(program, row, workload, peak=64e9)
  assert (found['median'], found['in_flight']) == (0.5, 0.25)
  assert found['images_per_second'] == 24
  assert found['tflops'] == 0.032
  assert found['share_of_peak'] == 0.5


def test_a_published_peak_is_not_measured(monkeypatch):
  monkeypatch.setattr(programs, 'matmul_peak', None)
  device = 'NVIDIA H100 80GB HBM3'
  assert report._peak('bfloat16', device, 20) == (989e12, 'published')
  assert report._peak('float32', device, 20) == (494e12, 'published')


def test_ratios_use_the_best_variant():
  rows = {
    'train_step': {'median': 3.0, 'in_flight': 1.0},
    'train_step contiguous': {'median': 4.0},
    'train_step channels_last': {'median': 9.0, 'in_flight': 2.0},
    'train_step without AGC channels_last': {'median': 0.8},
  }
  assert report.ratios(rows, ['train_step']) == {
    'train_step': 0.5,
    'train_step without AGC': 1.25,
  }


def test_peers_take_turns_with_our_programs(monkeypatch):
  class Peer:
    memory = 2**20

    def __call__(self, count):
      return 0.5 * count

  @contextlib.contextmanager
  def started(workload, platform):
    assert platform == 'cpu'
    yield {'forward openvino': Peer()}

  monkeypatch.setitem(report.PEERS, 'onnx', started)
  monkeypatch.setattr(report, '_peak', lambda *_: (1e12, 'matrix product'))
  program = programs.Program(lambda n: 0.25 * n, 1e9, 1.0, 2.0, 3, '')
  monkeypatch.setattr(programs, 'forward', lambda workload: program)
  workload = programs.Workload('test_nfnet', 32, 8, 'float32')
  found = report.measure(
    workload, rounds=1, in_flight=4, peer='onnx', parts=False
  )
  assert 'train_step' not in found
  assert found['in_flight'] == 4
  assert found['forward']['in_flight'] == 0.25
  assert found['onnx']['forward openvino']['median'] == 0.5
  assert found['onnx']['forward openvino']['memory_bytes'] == 2**20
  assert found['ratio'] == {'forward': 0.5}
