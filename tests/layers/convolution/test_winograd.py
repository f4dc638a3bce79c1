"""Winograd's convolutions equal XLA's, and are used where they are faster."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.layers.convolution import cpu, dense, winograd
from nfnets.layers.convolution.geometry import Geometry
from nfnets.runtime import cores
from tests import helpers

SAME = ((1, 1), (1, 1))
# batch, height, width, channels, outputs, pads, groups
CASES = {
  'even': (2, 6, 8, 3, 5, SAME, 1),
  'odd': (2, 7, 5, 3, 5, SAME, 1),
  'one_output': (1, 3, 3, 4, 2, ((0, 0), (0, 0)), 1),
  'no_pads': (2, 8, 9, 4, 6, ((0, 0), (0, 0)), 1),
  'uneven_pads': (2, 8, 9, 4, 6, ((0, 2), (2, 1)), 1),
  'wide_pads': (1, 5, 4, 4, 6, ((2, 2), (2, 2)), 1),
  'groups': (3, 6, 7, 8, 12, SAME, 4),
  'groups_no_pads': (3, 7, 6, 6, 4, ((0, 0), (0, 0)), 2),
}


def _operands(case):
  batch, height, width, channels, outputs, pads, groups = case
  rng = np.random.default_rng(0)
  x = rng.standard_normal((batch, height, width, channels), np.float32)
  w = rng.standard_normal((3, 3, channels // groups, outputs), np.float32)
  geometry = Geometry(1, pads, groups)
  return geometry, jnp.asarray(x), jnp.asarray(w)


@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_equals_xlas_convolution_and_its_gradients(case):
  geometry, x, w = _operands(case)

  @jax.jit
  def products(x, w):
    outputs, transpose = jax.vjp(lambda x, w: dense.plain(x, w, geometry), x, w)
    cotangent = jnp.cos(jnp.arange(outputs.size, dtype=x.dtype))
    cotangent = cotangent.reshape(outputs.shape)
    actual = (
      winograd.forward(geometry, x, w),
      winograd.inputs_gradient(geometry, w, cotangent),
      winograd.kernel_gradient(geometry, x, cotangent),
    )
    return actual, (outputs, *transpose(cotangent))

  for actual, expected in zip(*products(x, w), strict=True):
    assert actual.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
      actual, expected, rtol=0, atol=helpers.RTOL_REDUCTION * scale
    )


def test_four_outputs_take_16_multiplications():
  geometry, x, w = _operands((2, 8, 12, 4, 6, SAME, 1))
  program = jax.make_jaxpr(functools.partial(winograd.forward, geometry))(x, w)
  products = [
    equation
    for equation in program.eqns
    if equation.primitive.name == 'dot_general'
  ]
  # 2 images of 4 x 6 squares of outputs.
  counts = [e.outvars[0].aval.size * w.shape[2] for e in products]
  assert sum(counts) == 16 * (2 * 4 * 6) * 4 * 6


# Whether it computes the outputs, and the gradients of inputs and kernel.
@pytest.mark.parametrize(
  ('shape', 'count', 'dtype', 'used'),
  [
    ((2, 16, 16, 64, 128), 2, 'float32', (True, True, True)),
    ((2, 16, 16, 64, 128), 16, 'float32', (False, False, True)),
    ((8, 32, 32, 64, 128), 16, 'float32', (True, True, True)),
    # Narrower types, channels or outputs, and few positions.
    ((2, 16, 16, 64, 128), 2, 'bfloat16', (False, False, False)),
    ((2, 16, 16, 16, 64), 2, 'float32', (False, False, False)),
    ((2, 16, 16, 32, 32), 2, 'float32', (False, False, False)),
    ((1, 16, 16, 64, 128), 2, 'float32', (False, False, False)),
  ],
)
def test_used_where_faster(monkeypatch, shape, count, dtype, used):
  monkeypatch.setattr(cores, 'available', lambda: count)
  *sizes, channels, outputs = shape
  x = jax.ShapeDtypeStruct((*sizes, channels), dtype)
  w = jax.ShapeDtypeStruct((3, 3, channels, outputs), dtype)
  y = jax.ShapeDtypeStruct((*sizes, outputs), dtype)
  operands = {'forward': (x, w), 'inputs': (x, w, y), 'kernel': (x, w, y)}
  calls = []
  names = ('forward', 'inputs_gradient', 'kernel_gradient')
  for name in names:
    original = getattr(winograd, name)

    def spy(*args, original=original, name=name):
      calls.append(name)
      return original(*args)

    monkeypatch.setattr(winograd, name, spy)
  geometry = Geometry(1, SAME, 1)
  for part, product in cpu.PARTS.items():
    jax.eval_shape(
      functools.partial(product, geometry, 'auto'), *operands[part]
    )
  assert calls == [n for n, use in zip(names, used, strict=True) if use]
