"""Estimates the time of a compiled program on an accelerator; nothing runs.

A TPU's compiler writes its own estimate beside each operation. For a GPU, the
time is that of moving what fusions read and write, and of the products, each at
the highest rate of the device.
"""

import re
from typing import NamedTuple

from nfnets.analysis import hlo

_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


class Peak(NamedTuple):
  """The highest rates of a device, as its vendor publishes them.

  Attributes:
    bfloat16: operations per second of matrix products in bfloat16.
    float32: the same in float32 with JAX's default precision, which is TF32 on
      GPUs and bfloat16 on TPUs.
    bandwidth: bytes per second to and from a GPU's memory.
    clock: cycles per second of a TPU; None if it is not known.
  """

  bfloat16: float
  float32: float
  bandwidth: float | None = None
  clock: float | None = None


PEAKS = {
  'NVIDIA A100-SXM4-40GB': Peak(312e12, 156e12, 1.555e12),
  'NVIDIA A100-SXM4-80GB': Peak(312e12, 156e12, 2.039e12),
  'NVIDIA H100 80GB HBM3': Peak(989e12, 494e12, 3.35e12),
  'NVIDIA H200': Peak(989e12, 494e12, 4.8e12),
  # Its four units of 128 x 128 multipliers reach the peak at this clock.
  'TPU v5 lite': Peak(197e12, 197e12, clock=1.5e9),
  'TPU v6 lite': Peak(918e12, 918e12),
}
"""The rates of each device by `jax.Device.device_kind`."""


def cycles(module: hlo.Module) -> float:
  """Sums the cycles that a TPU's compiler estimates.

  Args:
    module: the optimized program; see `hlo.total` for loops and branches.

  Returns:
    The cycles on one device, 0 if the program is for another platform.
  """

  def cost(item: hlo.Instruction) -> float:
    return sum(map(int, _CYCLES.findall(item.rest)))

  return hlo.total(module, cost)


def moved_bytes(module: hlo.Module) -> float:
  """Counts the bytes that a GPU's fusions read and write.

  Args:
    module: the optimized program; see `hlo.total` for loops and branches.

  Returns:
    The bytes on one device. Convolutions and matrix products of libraries are
    not fusions: their operations are counted instead.
  """
  shapes = {item.name: item.shape for item in module.instructions()}

  def cost(item: hlo.Instruction) -> float:
    if item.opcode != 'fusion':
      return 0
    arrays = [item.shape, *(shapes.get(name, '') for name in item.operands)]
    return sum(map(hlo.shape_bytes, arrays))

  return hlo.total(module, cost)


def describe(text: str, device: str, flops: float, dtype: str) -> str | None:
  """Describes the estimated time of a program.

  Args:
    text: the optimized HLO module, of one device.
    device: the kind of device, a key of `PEAKS`.
    flops: operations of its convolutions and matrix products on each device.
    dtype: their dtype, 'bfloat16' or 'float32'.

  Returns:
    One line, or None if nothing can be estimated for this device.
  """
  module, peak = hlo.parse(text), PEAKS.get(device)
  if count := cycles(module):
    line = f"{count / 1e6:.1f} million cycles, by the compiler's own estimates"
    if peak and peak.clock:
      milliseconds = 1e3 * count / peak.clock
      line += f': {milliseconds:.1f} ms at {peak.clock / 1e9:g} GHz'
    return line
  if peak is None or peak.bandwidth is None:
    return None
  rate = peak.bfloat16 if dtype == 'bfloat16' else peak.float32
  size = moved_bytes(module)
  moving, computing = 1e3 * size / peak.bandwidth, 1e3 * flops / rate
  return (
    f'{moving + computing:.1f} ms at the peaks of the device: fusions move'
    f' {size / 1e9:.1f} GB ({moving:.1f} ms at {peak.bandwidth / 1e12:g} TB/s),'
    f' products take {computing:.1f} ms at {rate / 1e12:g} TFLOP/s'
  )
