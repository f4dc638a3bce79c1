"""What the gradients of whole networks keep and how they sum, counted."""

import math

import jax
import pytest
from jax import numpy as jnp

from nfnets import models
from nfnets.analysis import macs


def _gradient(name, batch, size):
  """Returns a function of (params, state, images) and shapes to call it on."""
  model = models.create_model(name)
  images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.bfloat16)
  params, state = jax.eval_shape(model.init, jax.random.key(0), images)
  params = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), params
  )

  def logits(params, state, images):
    keys = jax.random.split(jax.random.key(0), batch)
    return model.apply(params, state, keys, images, True)[0][0]

  def vjp(params, state, images):
    return jax.vjp(lambda p: logits(p, state, images), params)[1]

  return vjp, (params, state, images)


def _equations(jaxpr):
  for equation in jaxpr.eqns:
    yield equation
    for inner in macs.inner_jaxprs(equation.params):
      yield from _equations(inner)


def _kept_bytes(name, batch, size):
  vjp, arguments = _gradient(name, batch, size)
  kept = jax.eval_shape(vjp, *arguments)
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept))


@pytest.mark.parametrize(
  ('name', 'size', 'most'),
  [('nfnet_f0', 192, 48e6), ('nf_resnet50', 224, 24e6)],
)
def test_bytes_per_image_that_a_backward_pass_keeps(name, size, most):
  per_image = _kept_bytes(name, 3, size) - _kept_bytes(name, 2, size)
  assert per_image <= most


@pytest.mark.parametrize(
  'name',
  [
    'nfnet_f0',
    'nf_resnet50',
    'nf_regnet_b0',
    'eca_nfnet_l0',
    'skipinit_resnet50',
    'fixup_resnet50',
    'resnet50',
  ],
)
def test_no_gradient_is_summed_in_bfloat16(name):
  vjp, arguments = _gradient(name, 4, 64)

  def gradient(params, state, images):
    return vjp(params, state, images)(jnp.ones((4, 1000), jnp.bfloat16))

  jaxpr = jax.make_jaxpr(gradient)(*arguments).jaxpr
  for equation in _equations(jaxpr):
    inputs = equation.invars[0].aval if equation.invars else None
    if equation.primitive.name == 'reduce_sum':
      summed = math.prod(inputs.shape[i] for i in equation.params['axes'])
      assert summed == 1 or inputs.dtype == jnp.float32, inputs
