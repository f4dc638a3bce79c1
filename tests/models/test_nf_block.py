import functools

import chex
import haiku as hk
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from nfnets import models
from nfnets.analysis import signal_propagation
from nfnets.layers import convolution
from nfnets.models import nf_block, scaling
from tests import helpers

F0 = models.create_model('nfnet_f0', skip_gain_init=1.0).config


PLANS = [plan for stage in scaling.plan_blocks(F0) for plan in stage]


@functools.cache
def _block_at_init(plan):
  """Compiled once for blocks that differ in beta alone."""

  def forward(x, beta):
    return nf_block.NFBlock(F0, plan._replace(beta=beta))(x, False)

  layer = hk.transform(forward)
  # Parameters tensor by tensor: a program for all takes longer to compile.
  example = jnp.zeros((1, 1, 1, plan.in_channels))
  params = layer.init(jax.random.key(7), example, 1.0)
  return jax.jit(lambda x, beta: layer.apply(params, None, x, beta))


@pytest.mark.parametrize('index', range(12))
def test_variance_at_initialisation_with_skip_gains_of_one(index):
  # Each block of F0 gets what its place promises it: a Gaussian whose variance
  # is 1 / beta^2. A transition's comes doubled in size, so that the average
  # pool, which shrinks the variance of white noise, has nothing to average.
  plan = PLANS[index]
  shape = (1, 24, 24, plan.in_channels)
  x = jax.random.normal(jax.random.key(index), shape) / plan.beta
  for axis in (1, 2):
    x = jnp.repeat(x, plan.stride, axis)
  with convolution.lowering('plain'):
    block = _block_at_init(plan._replace(beta=1.0))
    output, residual = block(x, plan.beta)
  chex.assert_shape([output, residual], (1, 24, 24, plan.out_channels))
  # The zeros around the image take a few percent off at each 3x3.
  chex.assert_trees_all_close(jnp.var(residual), jnp.float32(1), atol=0.2)
  expected = signal_propagation.expected_variances(F0)[index]
  chex.assert_trees_all_close(jnp.var(output), jnp.float32(expected), rtol=0.03)


@pytest.mark.parametrize('size', [4, 5])
def test_average_pool_takes_means_of_what_there_is(size):
  x = np.random.default_rng(0).normal(size=(2, size, size, 3))
  half = (size + 1) // 2
  expected = np.zeros((2, half, half, 3))
  for i in range(half):
    for j in range(half):
      window = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
      expected[:, i, j] = window.mean((1, 2))
  np.testing.assert_allclose(
    nf_block.average_pool(jnp.asarray(x, jnp.float32)),
    expected,
    rtol=helpers.RTOL_REDUCTION,
    atol=1e-6,
  )


@pytest.mark.parametrize('size', [6, 7])
@pytest.mark.parametrize('padding', ['same', 'symmetric'])
def test_max_pool_by_its_padding(size, padding):
  x = -1.0 - np.random.default_rng(0).random((1, size, size, 2))
  before = 0 if padding == 'same' and size % 2 == 0 else 1
  half = (size + 1) // 2
  expected = np.zeros((1, half, half, 2))
  for i in range(half):
    for j in range(half):
      top, left = max(0, 2 * i - before), max(0, 2 * j - before)
      bottom, right = 2 * i - before + 3, 2 * j - before + 3
      expected[:, i, j] = x[:, top:bottom, left:right].max((1, 2))
  pooled = nf_block.max_pool(jnp.asarray(x, jnp.float32), padding)
  np.testing.assert_allclose(pooled, expected, rtol=helpers.RTOL_ELEMENTWISE)
