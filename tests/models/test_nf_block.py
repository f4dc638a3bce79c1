import functools

import chex
import haiku as hk
import jax
import pytest
from jax import numpy as jnp

from nfnets import models
from nfnets.analysis import signal_propagation
from nfnets.layers import convolution
from nfnets.models import nf_block, scaling

F0 = models.create_model('nfnet_f0', skip_gain_init=1.0).config


PLANS = [plan for stage in scaling.plan_blocks(F0) for plan in stage]


@functools.cache
def _block_at_init(plan):
  """Returns a function of inputs and beta, compiled once per plan."""

  def forward(x, beta):
    return nf_block.NFBlock(F0, plan._replace(beta=beta))(x, False)

  layer = hk.transform(forward)
  # Not jitted: one program for all parameters takes longer to compile.
  example = jnp.zeros((1, 1, 1, plan.in_channels))
  params = layer.init(jax.random.key(7), example, 1.0)
  return jax.jit(lambda x, beta: layer.apply(params, None, x, beta))


@pytest.mark.parametrize('index', range(12))
def test_variance_at_initialization_with_skip_gains_of_one(index):
  # Each block of F0 gets the input that its beta expects: a Gaussian of
  # variance 1 / beta^2. In transitions each pixel is repeated to 2x2, because
  # average pooling would reduce the variance of white noise.
  plan = PLANS[index]
  shape = (1, 24, 24, plan.in_channels)
  x = jax.random.normal(jax.random.key(index), shape) / plan.beta
  for axis in (1, 2):
    x = jnp.repeat(x, plan.stride, axis)
  with convolution.lowering('plain'):
    block = _block_at_init(plan._replace(beta=1.0))
    output, residual = block(x, plan.beta)
  chex.assert_shape([output, residual], (1, 24, 24, plan.out_channels))
  # Zero padding costs a few percent at each 3x3 convolution.
  chex.assert_trees_all_close(jnp.var(residual), jnp.float32(1), atol=0.2)
  expected = signal_propagation.expected_variances(F0)[index]
  chex.assert_trees_all_close(jnp.var(output), jnp.float32(expected), rtol=0.03)
