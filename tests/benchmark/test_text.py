"""Records of the benchmark as text."""

import pytest

from nfnets.benchmark import text, timing

TAKEN = timing.Timing(0.2, 0.1, 0.3, 0.1, 3)._asdict()
OURS = TAKEN | {
  'images_per_second': 5.0,
  'tflops': 0.5,
  'share_of_peak': 0.25,
  'trace_seconds': 1.0,
  'compile_seconds': 2.0,
  'memory_bytes': 3 * 2**20,
}


@pytest.fixture
def record():
  return {
    'model': 'test_nfnet',
    'size': 32,
    'batch': 8,
    'dtype': 'float32',
    'platform': 'cpu',
    'device': 'cpu',
    'jax': '0.10.2',
    'in_flight': 1,
    'peak_tflops': 2.0,
    'peak_source': 'matrix product',
    'forward': OURS,
    'train_step': OURS,
  }


def test_our_programs(record):
  assert text.lines(record) == [
    'test_nfnet  32 px, batch 8, float32, cpu, jax 0.10.2, matrix product at'
    ' 2.000 TFLOP/s',
    *(
      f'  {name:42}     200.0 ms (100.0 to 300.0)     5.00 images/s'
      ' 0.500 TFLOP/s (25%), traced in 1.0 s, compiled in 2.0 s, 3 MiB'
      for name in ('forward', 'train_step')
    ),
  ]


def test_throughput_is_beside_latency(record):
  record |= {'in_flight': 20, 'peak_source': 'published'}
  record['forward'] = OURS | {'in_flight': 0.15}
  shown = text.lines(record)
  assert shown[0].endswith(', peak 2.000 TFLOP/s')
  assert '200.0 ms (100.0 to 300.0), 150.0 ms with 20 in flight ' in shown[1]
  assert 'in flight' not in shown[2]


def test_a_peer(record):
  without = 'train_step without AGC channels_last'
  record['timm'] = {
    'forward contiguous': TAKEN | {'memory_bytes': None},
    without: TAKEN | {'memory_bytes': 2**21},
  }
  record['ratio'] = {'forward': 0.5, 'train_step without AGC': 0.8}
  assert text.lines(record)[3:] == [
    f'  {"timm forward contiguous":42}     200.0 ms (100.0 to 300.0)',
    f'  {f"timm {without}":42}     200.0 ms (100.0 to 300.0), 2 MiB',
    "  forward: 0.50 of timm's best time",
    "  train_step without AGC: 0.80 of timm's best time",
  ]


def test_runtimes_that_only_predict(record):
  del record['train_step']
  record['onnx'] = {'forward openvino': TAKEN | {'memory_bytes': None}}
  record['ratio'] = {'forward': 1.25}
  assert text.lines(record)[-1] == "  forward: 1.25 of onnx's best time"


def test_the_profile_compares_parts_with_the_step(record):
  record['parts'] = {'AGC': 0.03, 'host': 0.01}
  record['profiled'] = {'busy': 0.11, 'total': 0.12}
  assert text.lines(record)[3:] == [
    "  the published recipe's step, profiled: the device is busy for"
    ' 110.0 of 120.0 ms',
    f'    {"AGC":30}      30.0 ms  25.0%',
    f'    {"host":30}      10.0 ms   8.3%',
  ]
