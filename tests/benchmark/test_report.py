"""Records of the benchmark and their text."""

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


def test_text_shows_each_program_and_the_peer(record):
  taken = timing.Timing(0.2, 0.1, 0.3, 0.1, 3)._asdict()
  shown = report.lines(
    record
    | {
      'timm': {'forward contiguous': taken},
      'ratio': {'forward': 0.5},
      'parts': {'AGC': 0.03, 'EMA': 0.01},
    }
  )
  assert shown[0].startswith('test_nfnet  32 px, batch 8, float32, cpu')
  assert [line.split()[0] for line in shown[1:3]] == ['forward', 'train_step']
  assert '200.0 ms (100.0 to 300.0)' in shown[3]
  assert '0.50 of' in shown[4]
  assert shown[-2].endswith('30.0 ms  75.0%')


def test_ratio_uses_the_better_layout():
  def taken(seconds):
    return timing.summarize([seconds])

  timings = {
    'forward': taken(1.0),
    'timm forward contiguous': taken(4.0),
    'timm forward channels_last': taken(2.0),
  }
  assert report._ratio('forward', timings) == 0.5
