"""Multiply-accumulates of networks and of single operations."""

import jax
import pytest
from jax import lax
from jax import numpy as jnp

from nfnets import models
from nfnets.analysis import macs
from nfnets.layers import convolution

# 10^9 MACs at the training and the test size, to three decimals.
GMACS = {
  'nfnet_f0': (6.977, 12.384),
  'nfnet_f1': (17.438, 35.539),
  'nfnet_f2': (33.139, 62.593),
  'nfnet_f3': (67.944, 114.764),
  'nfnet_f4': (121.122, 215.241),
  'nfnet_f5': (169.498, 289.757),
  'nfnet_f6': (228.293, 377.280),
  'nfnet_f7': (298.477, 478.782),
  'nfnet_f0+': (10.999, 19.520),
  'nfnet_f1+': (27.210, 55.445),
  'nfnet_f2+': (51.509, 97.275),
  'nfnet_f3+': (105.383, 177.987),
  'nfnet_f4+': (187.619, 333.390),
  'nfnet_f5+': (262.328, 448.427),
  'nfnet_f6+': (353.102, 583.517),
  'nfnet_f7+': (461.436, 740.158),
  'nf_regnet_b0': (0.327, 0.444),
  'nf_regnet_b1': (0.563, 0.734),
  'nf_regnet_b2': (0.898, 1.145),
  'nf_regnet_b3': (1.621, 1.999),
  'nf_regnet_b4': (3.107, 4.467),
  'nf_regnet_b5': (7.496, 11.098),
  'nf_regnet_b6': (14.183, 20.137),
  'nf_regnet_b7': (27.283, 38.161),
  'nf_regnet_b8': (51.805, 63.719),
  'nf_resnet50': (4.089, 4.089),
  'nf_resnet101': (7.801, 7.801),
  'nf_resnet152': (11.514, 11.514),
  'nf_resnet200': (15.007, 15.007),
  'nf_resnet288': (21.558, 21.558),
  'nf_resnet600': (44.269, 44.269),
}
_QUICK = ('nfnet_f0', 'nfnet_f0+', 'nf_regnet_b2', 'nf_resnet50')


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    pytest.param(*row, marks=[] if row[0] in _QUICK else [pytest.mark.slow])
    for row in GMACS.items()
  ],
)
def test_gmacs_equal_the_published_ones(name, expected):
  model = models.create_model(name)
  sizes = (model.config.train_size, model.config.test_size)
  for size, gmacs in zip(sizes, expected, strict=True):
    # The table has three decimals.
    assert abs(macs.model_macs(model, size) / 1e9 - gmacs) <= 0.00051


def test_squeeze_excite_is_counted():
  model = models.create_model('nf_resnet50', se_ratio=0.25)
  assert round(macs.model_macs(model, 224) / 1e9, 3) == 4.099


def test_a_grouped_convolution_by_hand():
  x = jax.ShapeDtypeStruct((2, 9, 9, 8), 'float32')
  kernel = jax.ShapeDtypeStruct((3, 3, 4, 6), 'float32')

  def apply(x, kernel):
    return convolution.conv2d(x, kernel, stride=2, groups=2)

  expected = 2 * 5 * 5 * 6 * (3 * 3 * 4)
  assert macs.count_macs(apply, x, kernel) == expected
  with convolution.lowering('matmul'):
    assert macs.count_macs(apply, x, kernel) == expected


def test_matrix_products_loops_and_branches():
  x = jnp.ones((4, 4))

  def loop(x):
    return lax.scan(lambda carry, _: (carry @ x, None), x, length=5)[0]

  def branch(x):
    return lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x, x)

  assert macs.count_macs(jnp.matmul, jnp.ones((2, 3)), jnp.ones((3, 5))) == 30
  assert macs.count_macs(loop, x) == 5 * 4**3
  assert macs.count_macs(branch, x) == 2 * 4**3
  assert macs.count_macs(jax.jit(jax.checkpoint(jnp.dot)), x, x) == 4**3


def test_a_gradient_costs_three_times_as_much():
  x, w = jnp.ones((2, 3)), jnp.ones((3, 5))
  gradient = jax.grad(lambda w, x: jnp.sum((x @ w) ** 2), argnums=(0, 1))
  assert macs.count_macs(gradient, w, x) == 3 * 30


def test_a_strided_convolution_costs_as_much_in_each_pass():
  x = jax.ShapeDtypeStruct((2, 8, 8, 6), 'float32')
  kernel = jax.ShapeDtypeStruct((2, 2, 3, 4), 'float32')

  def loss(x, kernel):
    return jnp.sum(convolution.conv2d(x, kernel, stride=2, groups=2) ** 2)

  once = macs.count_macs(loss, x, kernel)
  assert once == 2 * 4 * 4 * 4 * (2 * 2 * 3)
  assert macs.count_macs(jax.grad(loss, (0, 1)), x, kernel) == 3 * once
