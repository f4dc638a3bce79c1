"""Dense convolutions on machines with few and with many cores."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.layers.convolution import dense
from nfnets.layers.convolution.geometry import Geometry
from nfnets.runtime import cores
from tests import helpers

# batch, height, width, channels, outputs, kernel, pads
CASES = {
  'same': (2, 17, 19, 3, 5, (3, 3), ((1, 1), (1, 1))),
  'one_image': (1, 24, 20, 3, 5, (3, 3), ((1, 1), (1, 1))),
  'no_pads': (3, 17, 19, 3, 5, (3, 3), ((0, 0), (0, 0))),
  'uneven_pads': (3, 17, 19, 3, 5, (3, 3), ((0, 2), (2, 1))),
  'uneven_kernel': (2, 17, 19, 3, 5, (5, 2), ((1, 3), (0, 1))),
  'pads_wider_than_the_kernel': (2, 17, 19, 3, 5, (2, 2), ((3, 0), (1, 4))),
  'two_blocks_of_outputs': (3, 17, 19, 3, 80, (3, 3), ((1, 1), (1, 1))),
}


def _operands(case):
  batch, height, width, channels, outputs, kernel, pads = case
  rng = np.random.default_rng(0)
  x = rng.standard_normal((batch, height, width, channels), np.float32)
  w = rng.standard_normal((*kernel, channels, outputs), np.float32)
  geometry = Geometry(1, pads, 1)
  return geometry, jnp.asarray(x), jnp.asarray(w)


@pytest.mark.parametrize('count', [1, 16])
@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_equals_xlas_convolution_and_its_gradients(monkeypatch, case, count):
  monkeypatch.setattr(cores, 'available', lambda: count)
  geometry, x, w = _operands(case)

  def products(convolve):
    outputs, transpose = jax.vjp(convolve, x, w)
    cotangent = jnp.cos(jnp.arange(outputs.size, dtype=jnp.float32))
    return outputs, *transpose(cotangent.reshape(outputs.shape))

  actual = products(lambda x, w: dense.dense(geometry, x, w))
  padded = [(0, 0), *geometry.pads, (0, 0)]
  valid = geometry._replace(pads=((0, 0), (0, 0)))
  expected = products(lambda x, w: dense.plain(jnp.pad(x, padded), w, valid))
  for a, b in zip(actual, expected, strict=True):
    scale = np.abs(b).max()
    np.testing.assert_allclose(
      a, b, rtol=0, atol=helpers.RTOL_REDUCTION * scale
    )


@pytest.mark.parametrize(('count', 'rows'), [(2, 17), (3, 3)])
def test_one_line_where_channels_leave_cores_idle(monkeypatch, count, rows):
  # 80 outputs make two blocks of channels, 969 positions seven of columns.
  monkeypatch.setattr(cores, 'available', lambda: count)
  geometry, x, w = _operands(CASES['two_blocks_of_outputs'])
  lowered = jax.jit(lambda x, w: dense.dense(geometry, x, w))
  (line,) = [
    line
    for line in lowered.lower(x, w).as_text().splitlines()
    if 'stablehlo.convolution' in line
  ]
  operand = re.search(r'\(tensor<(\d+)x(\d+)x', line)
  assert operand and int(operand.group(2)) == rows
