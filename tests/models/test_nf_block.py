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


@pytest.mark.parametrize(
  ('name', 'skip_gain'),
  [
    ('nf_resnet50', 0.0),
    ('nf_resnet50', 0.7),
    ('skipinit_resnet50', 0.7),
    ('nfnet_f0', 0.7),
  ],
)
def test_factors_of_the_branch_multiply_its_output(name, skip_gain):
  options = {'group_size': 32} if name == 'nfnet_f0' else {}
  config = models.create_model(name, width=0.25, **options).config
  plan = scaling.plan_blocks(config)[0][0]
  layer = hk.transform(
    lambda x, kept: nf_block.NFBlock(config, plan)(x, True, kept)
  )
  x = jax.random.normal(jax.random.key(0), (3, 4, 4, plan.in_channels))
  kept = jnp.asarray([1.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
  params = layer.init(jax.random.key(1), x, kept)
  params[config.block_name]['skip_gain'] = jnp.asarray(skip_gain)

  def actual(params, x):
    return layer.apply(params, None, x, kept)[0]

  def expected(params, x):
    shortcut, _ = layer.apply(params, None, x, jnp.zeros_like(kept))
    _, residual = layer.apply(params, None, x, jnp.ones_like(kept))
    gain = params[config.block_name]['skip_gain']
    return shortcut + config.alpha * gain * residual * kept

  outputs, pull = jax.vjp(actual, params, x)
  reference, expected_pull = jax.vjp(expected, params, x)
  np.testing.assert_allclose(
    outputs, reference, rtol=helpers.RTOL_REDUCTION, atol=1e-5
  )
  cotangent = jax.random.normal(jax.random.key(2), outputs.shape)
  for one, other in zip(
    jax.tree.leaves(pull(cotangent)),
    jax.tree.leaves(expected_pull(cotangent)),
    strict=True,
  ):
    scale = float(jnp.max(jnp.abs(other))) + 1e-6
    np.testing.assert_allclose(
      one / scale, other / scale, atol=helpers.RTOL_REDUCTION
    )
