"""Which lowering CPUs get. That all are equal is tested with the dispatch."""

import functools
import re

import jax
import pytest

from nfnets.layers.convolution import cpu
from nfnets.layers.convolution.geometry import Geometry

# batch, height, width, channels, outputs, kernel, stride, groups -> dense
# convolutions and matrix products of the outputs.
CASES = {
  'pointwise': ((2, 20, 24, 6, 4, 1, 1, 1), 0, 1),
  'pointwise strided': ((2, 40, 48, 6, 4, 1, 2, 1), 0, 1),
  'few positions': ((2, 8, 16, 4, 6, 3, 1, 1), 0, 1),
  'many positions': ((2, 20, 24, 4, 6, 3, 1, 1), 1, 0),
  'many channels': ((2, 20, 24, 64, 128, 3, 1, 1), 0, 4),
  'many channels strided': ((2, 40, 48, 64, 128, 3, 2, 1), 1, 0),
  # 11 groups of 8 channels are merged into one of 64 and one of 24, of which
  # Winograd takes the first.
  'narrow groups': ((2, 20, 24, 88, 88, 3, 1, 11), 1, 4),
  'narrow groups strided': ((2, 40, 48, 88, 88, 3, 2, 11), 2, 0),
  'wide groups': ((2, 20, 24, 128, 256, 3, 1, 2), 0, 4),
  'wide groups strided': ((2, 40, 48, 128, 256, 3, 2, 2), 2, 0),
  'wide groups, few positions': ((2, 8, 16, 128, 256, 3, 1, 2), 0, 1),
}


def _operations(case, way):
  batch, height, width, channels, outputs, size, stride, groups = case
  x = jax.ShapeDtypeStruct((batch, height, width, channels), 'float32')
  w = jax.ShapeDtypeStruct((size, size, channels // groups, outputs), 'float32')
  geometry = Geometry.of(x, w, stride=stride, padding='SAME', groups=groups)
  product = functools.partial(cpu.PARTS['forward'], geometry, way)
  text = jax.jit(product).lower(x, w).as_text()
  # Merging kernels is a product too, but it contracts nothing.
  products = re.findall(r'dot_general.*contracting_dims = \[\d', text)
  return text.count('stablehlo.convolution'), len(products)


@pytest.mark.parametrize(
  ('case', 'convolutions', 'products'), CASES.values(), ids=CASES
)
def test_lowering_by_shape(case, convolutions, products):
  assert _operations(case, 'auto') == (convolutions, products)


def test_forced_lowerings_have_no_exceptions():
  for case, *_ in CASES.values():
    assert _operations(case, 'plain') == (1, 0)
    assert _operations(case, 'matmul')[0] == 0
    pointwise = case[5] == 1
    assert (_operations(case, 'grouped_dense')[0] == 0) == pointwise
