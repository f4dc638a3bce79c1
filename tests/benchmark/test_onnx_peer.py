"""ONNX runtimes and the processes that run them."""

import contextlib

import pytest

from nfnets import errors
from nfnets.benchmark import child, onnx_peer, programs

WORKLOAD = programs.Workload('test_nfnet', 64, 2, 'float32')


def installed(monkeypatch, *packages):
  monkeypatch.setattr(
    onnx_peer.importlib.util, 'find_spec', lambda name: name in packages
  )


@pytest.mark.parametrize(
  ('dtype', 'packages', 'expected'),
  [
    ('float32', {'onnxruntime', 'openvino'}, ['onnxruntime', 'openvino']),
    ('float32', {'openvino'}, ['openvino']),
    ('bfloat16', {'onnxruntime', 'openvino'}, ['openvino']),
  ],
)
def test_runtimes_that_are_installed(dtype, packages, expected, monkeypatch):
  @contextlib.contextmanager
  def started(peer, module, arguments, calls):
    name, path, *rest = arguments
    assert (name, path.read_bytes(), rest) == (peer, b'graph', [64, 2, dtype])
    yield dict.fromkeys(calls)

  installed(monkeypatch, *packages)
  monkeypatch.setattr(child, 'started', started)
  monkeypatch.setattr(onnx_peer, '_export', lambda workload: b'graph')
  workload = WORKLOAD._replace(dtype=dtype)
  with onnx_peer.started(workload, 'cpu') as contestants:
    assert list(contestants) == [f'forward {name}' for name in expected]


def test_without_a_runtime_for_the_dtype(monkeypatch):
  installed(monkeypatch, 'onnxruntime')
  with pytest.raises(errors.UserError, match='bfloat16 needs openvino: pip'):
    with onnx_peer.started(WORKLOAD._replace(dtype='bfloat16'), 'cpu'):
      pass


def test_accelerators_are_not_compared_with_cpus():
  with pytest.raises(errors.UserError, match='on gpu: set JAX_PLATFORMS=cpu'):
    with onnx_peer.started(WORKLOAD, 'gpu'):
      pass


@pytest.mark.slow
def test_runtimes_run():
  pytest.importorskip('onnx')
  pytest.importorskip('onnxruntime')
  with onnx_peer.started(WORKLOAD, 'cpu') as contestants:
    assert 'forward onnxruntime' in contestants
    for run in contestants.values():
      assert run(2) > 0
