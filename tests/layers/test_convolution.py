import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from nfnets.layers import convolution
from tests import helpers

LOWERINGS = ('auto', 'plain', 'grouped_dense', 'matmul')

# (height, width, in, out, kernel, stride, padding, groups)
CASES = {
  'pointwise': (5, 7, 6, 4, 1, 1, 'SAME', 1),
  'pointwise_strided_odd': (7, 5, 6, 4, 1, 2, 'SAME', 1),
  'pointwise_strided_even': (8, 6, 6, 4, 1, 2, 'SAME', 1),
  'pointwise_grouped': (4, 4, 8, 12, 1, 1, 'SAME', 4),
  'pointwise_padded': (4, 4, 3, 4, 1, 1, ((1, 1), (0, 2)), 1),
  'stem': (9, 12, 3, 16, 3, 2, 'SAME', 1),
  'stem_of_resnets': (15, 16, 3, 8, 7, 2, 'SAME', 1),
  'stem_symmetric': (16, 15, 3, 8, 7, 2, ((3, 3), (3, 3)), 1),
  'dense': (6, 5, 4, 6, 3, 1, 'SAME', 1),
  'dense_many_positions': (24, 20, 4, 6, 3, 1, 'SAME', 1),
  'grouped': (6, 7, 8, 8, 3, 1, 'SAME', 2),
  'grouped_wide': (5, 5, 128, 256, 3, 1, 'SAME', 2),
  'grouped_many_positions': (20, 24, 32, 64, 3, 1, 'SAME', 2),
  'grouped_strided_odd': (7, 9, 8, 12, 3, 2, 'SAME', 4),
  'grouped_strided_even': (8, 6, 8, 12, 3, 2, 'SAME', 4),
  'grouped_symmetric': (8, 6, 8, 8, 3, 2, ((1, 1), (1, 1)), 2),
  'grouped_narrow': (5, 6, 88, 88, 3, 1, 'SAME', 11),
  'grouped_narrow_merged_unevenly': (5, 6, 72, 144, 3, 2, 'SAME', 9),
  'depthwise': (6, 6, 10, 10, 3, 1, 'SAME', 10),
  'valid': (7, 8, 4, 4, 3, 2, 'VALID', 2),
  'even_kernel': (7, 8, 4, 4, 2, 2, 'SAME', 1),
}


def _xla(x, w, stride, padding, groups):
  return lax.conv_general_dilated(
    x,
    w,
    (stride, stride),
    padding,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=groups,
  )


def _operands(case, dtype=jnp.float32):
  height, width, channels, outputs, size, stride, padding, groups = case
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, height, width, channels))
  w = rng.standard_normal((size, size, channels // groups, outputs))
  options = {'stride': stride, 'padding': padding, 'groups': groups}
  return jnp.asarray(x, dtype), jnp.asarray(w, dtype), options


def _run(name, fn, *args):
  if name == 'auto':
    return jax.jit(fn)(*args)
  with convolution.lowering(name):
    return jax.jit(fn)(*args)


def _assert_close(actual, expected, tolerance):
  assert actual.shape == expected.shape
  assert actual.dtype == expected.dtype
  scale = np.abs(np.asarray(expected, np.float64)).max()
  np.testing.assert_allclose(
    np.asarray(actual, np.float64),
    np.asarray(expected, np.float64),
    rtol=0,
    atol=tolerance * scale,
  )


@pytest.mark.parametrize('name', LOWERINGS)
@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_equals_xlas_convolution_and_its_gradients(case, name):
  x, w, options = _operands(case)
  expected, transpose = jax.vjp(lambda x, w: _xla(x, w, **options), x, w)
  cotangent = jnp.cos(jnp.arange(expected.size, dtype=jnp.float32))
  cotangent = cotangent.reshape(expected.shape)

  def all_products(x, w, cotangent):
    outputs, transpose = jax.vjp(
      lambda x, w: convolution.conv2d(x, w, **options), x, w
    )
    return outputs, *transpose(cotangent)

  actual = _run(name, all_products, x, w, cotangent)
  for a, b in zip(actual, (expected, *transpose(cotangent)), strict=True):
    _assert_close(a, b, helpers.RTOL_REDUCTION)
