"""Estimated times of programs for accelerators that are not there."""

import pytest

from nfnets.analysis import estimates, hlo

H100 = 'NVIDIA H100 80GB HBM3'
GPU = """
%fused (p: bf16[1000,1000]) -> bf16[1000,1000] {
  ROOT %inside = bf16[1000,1000]{1,0} negate(%p)
}

ENTRY %main (x: bf16[1000,1000]) -> bf16[1000,1000] {
  %x = bf16[1000,1000]{1,0} parameter(0)
  %loop_fusion = bf16[1000,1000]{1,0} fusion(%x), kind=kLoop, calls=%fused
  %conv = (bf16[1000,1000]{1,0}, u8[0]{0}) custom-call(%x), \
custom_call_target="__cudnn$convForward"
  %get = bf16[1000,1000]{1,0} get-tuple-element(%conv), index=0
  ROOT %input_fusion = f32[1000,1000]{1,0} fusion(%get, %loop_fusion), \
kind=kInput, calls=%fused
}
"""
TPU = """
%body (x: f32[4]) -> f32[4] {
  ROOT %a = f32[4] add(%x, %x), backend_config={"window_config":\
{"estimated_cycles":"1000000"}}
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %b = f32[4] fusion(%x), calls=%f, backend_config={"estimated_cycles":"500000"}
  ROOT %c = f32[4] while(%b), body=%body, \
backend_config={"known_trip_count":{"n":"4"}}
}
"""


def test_fusions_of_a_gpu_read_and_write():
  # 2 MB in and out, then two of 2 MB in and 4 MB out; no convolution.
  assert estimates.moved_bytes(hlo.parse(GPU)) == 4e6 + 8e6


def test_a_gpu():
  assert estimates.describe(GPU, H100, 989e9, 'bfloat16') == (
    '1.0 ms at the peaks of the device: fusions move 0.0 GB (0.0 ms at 3.35'
    ' TB/s), products take 1.0 ms at 989 TFLOP/s'
  )
  assert estimates.describe(GPU, H100, 989e9, 'float32').endswith(
    'products take 2.0 ms at 494 TFLOP/s'
  )


def test_cycles_of_a_tpu():
  assert estimates.cycles(hlo.parse(TPU)) == 4.5e6
  assert estimates.describe(TPU, 'TPU v5 lite', 1.0, 'bfloat16') == (
    "4.5 million cycles, by the compiler's own estimates: 3.0 ms at 1.5 GHz"
  )
  assert estimates.describe(TPU, 'TPU v9', 1.0, 'bfloat16') == (
    "4.5 million cycles, by the compiler's own estimates"
  )


@pytest.mark.parametrize('device', ['cpu', 'TPU v5 lite', 'NVIDIA B900'])
def test_nothing_is_known(device):
  assert estimates.describe(GPU, device, 1.0, 'bfloat16') is None
