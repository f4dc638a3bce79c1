import functools
import math

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from nfnets.layers import convolution
from tests import helpers

FORCED = ('plain', 'grouped_dense', 'matmul')

# (height, width, in, out, kernel, stride, padding, groups)
CASES = {
  'pointwise': (5, 7, 6, 4, 1, 1, 'SAME', 1),
  'pointwise_strided_odd': (7, 5, 6, 4, 1, 2, 'SAME', 1),
  'pointwise_strided_even': (8, 6, 6, 4, 1, 2, 'SAME', 1),
  'pointwise_grouped': (4, 4, 8, 12, 1, 1, 'SAME', 4),
  'pointwise_grouped_wide': (4, 4, 128, 192, 1, 1, 'SAME', 2),
  'pointwise_padded': (4, 4, 3, 4, 1, 1, ((1, 1), (0, 2)), 1),
  'stem': (9, 12, 3, 16, 3, 2, 'SAME', 1),
  'stem_of_resnets': (15, 16, 3, 8, 7, 2, 'SAME', 1),
  'stem_symmetric': (16, 15, 3, 8, 7, 2, ((3, 3), (3, 3)), 1),
  'dense': (6, 5, 4, 6, 3, 1, 'SAME', 1),
  'dense_many_positions': (24, 20, 4, 6, 3, 1, 'SAME', 1),
  'grouped': (6, 7, 8, 8, 3, 1, 'SAME', 2),
  'wide_strided_many_positions': (33, 24, 64, 128, 3, 2, 'SAME', 1),
  'grouped_wide': (5, 5, 128, 256, 3, 1, 'SAME', 2),
  'grouped_wide_strided_odd': (7, 5, 128, 192, 3, 2, 'SAME', 2),
  'grouped_many_positions': (20, 24, 32, 64, 3, 1, 'SAME', 2),
  'grouped_wide_many_positions': (20, 24, 128, 256, 3, 1, 'SAME', 2),
  'grouped_wide_strided_many_positions': (33, 24, 192, 192, 3, 2, 'SAME', 3),
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


def _products(convolve, x, w, cotangent):
  outputs, transpose = jax.vjp(convolve, x, w)
  return outputs, *transpose(cotangent)


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


@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_equals_xlas_convolution_and_its_gradients(case):
  x, w, options = _operands(case)
  shape = jax.eval_shape(functools.partial(_xla, **options), x, w).shape
  cotangent = jnp.cos(jnp.arange(math.prod(shape), dtype=jnp.float32))
  ours = functools.partial(convolution.conv2d, **options)

  @jax.jit
  def all_lowerings(*operands):
    results = {'auto': _products(ours, *operands)}
    for name in FORCED:
      with convolution.lowering(name):
        results[name] = _products(ours, *operands)
    expected = _products(functools.partial(_xla, **options), *operands)
    return results, expected

  results, expected = all_lowerings(x, w, cotangent.reshape(shape))
  assert len(results) == 1 + len(FORCED)
  for actual in results.values():
    for a, b in zip(actual, expected, strict=True):
      _assert_close(a, b, helpers.RTOL_REDUCTION)


@pytest.mark.parametrize('name', ['pointwise', 'grouped', 'grouped_narrow'])
def test_bfloat16_equals_xlas_convolution_within_rounding(name):
  x, w, options = _operands(CASES[name], jnp.bfloat16)
  actual = jax.jit(functools.partial(convolution.conv2d, **options))(x, w)
  expected = _xla(x.astype(jnp.float32), w.astype(jnp.float32), **options)
  assert actual.dtype == jnp.bfloat16
  # One rounding of the result, and at most one more of each group's sum.
  _assert_close(actual.astype(jnp.float32), expected, 2.0**-7)


def test_second_derivatives():
  x, w, options = _operands(CASES['grouped_strided_odd'])

  def second(convolve):
    def first(w):
      return jnp.sum(jnp.sin(jax.grad(lambda x: _norm(convolve, x, w))(x)))

    return jax.jit(jax.grad(first))(w)

  def _norm(convolve, x, w):
    return jnp.sum(convolve(x, w, **options) ** 2)

  _assert_close(second(convolution.conv2d), second(_xla), 1e-4)


def test_each_platform_of_an_export_has_its_own_lowering():
  x, w, options = _operands(CASES['grouped_wide'])

  def program(*platforms):
    function = jax.jit(functools.partial(convolution.conv2d, **options))
    return jax.export.export(function, platforms=platforms)(x, w).mlir_module()

  cpu, cuda, tpu = (program(name) for name in ('cpu', 'cuda', 'tpu'))
  assert 'feature_group_count = 2' not in cpu
  for text in (cuda, tpu):
    assert text.count('stablehlo.convolution') == 1
    assert 'feature_group_count = 2' in text
  several = program('cpu', 'cuda', 'tpu')
  assert 'feature_group_count = 2' in several
  assert 'stablehlo.case' in several


def test_a_program_exported_for_all_platforms_runs_here():
  x, w, options = _operands(CASES['grouped'])
  function = jax.jit(functools.partial(convolution.conv2d, **options))
  exported = jax.export.export(function, platforms=('cpu', 'cuda', 'tpu'))(x, w)
  _assert_close(
    exported.call(x, w), _xla(x, w, **options), helpers.RTOL_REDUCTION
  )


def test_a_jitted_function_follows_the_context():
  x, w, options = _operands(CASES['grouped'])
  function = jax.jit(functools.partial(convolution.conv2d, **options))

  def text():
    return function.lower(x, w).as_text()

  assert 'feature_group_count = 2' not in text()
  with convolution.lowering('plain'):
    assert 'feature_group_count = 2' in text()
  with convolution.lowering('matmul'):
    assert 'stablehlo.convolution' not in text()
  assert 'feature_group_count = 2' not in text()


def test_an_unknown_lowering_is_an_error():
  with pytest.raises(ValueError, match='cudnn'):
    with convolution.lowering('cudnn'):
      pass


def test_vmap_over_kernels():
  x, w, options = _operands(CASES['grouped'])
  kernels = jnp.stack([w, 2 * w])
  actual = jax.vmap(lambda w: convolution.conv2d(x, w, **options))(kernels)
  _assert_close(actual[1], 2 * actual[0], helpers.RTOL_REDUCTION)
