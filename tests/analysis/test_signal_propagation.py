"""Signal propagation: statistics, analytic variances, gains."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from nfnets import models
from nfnets.analysis import signal_propagation
from nfnets.layers import convolution
from tests import filled
from tests.golden import fill


def test_statistics_of_known_signals():
  # Channel means 1 and 3 (squares: 5 on average), variances 4 and 0.
  block = jnp.stack([jnp.array([[-1.0, 3.0]]), jnp.full((1, 2), 3.0)], -1)[None]
  residual = jnp.array([0.0, 6.0]).reshape(1, 1, 2, 1)
  endpoints = {
    'stride_2': block,
    'block_0': block,
    'block_0/residual': residual,
    'pool': block[0, 0],
  }
  (row,) = signal_propagation.block_statistics(endpoints)
  np.testing.assert_allclose(row, (5.0, 2.0, 9.0), rtol=1e-6)


def test_expected_variances_restart_at_each_stage():
  config = models.create_model('nfnet_f0', alpha=0.5).config
  expected = [1.25, 1.25, 1.5]
  variances = signal_propagation.expected_variances(config)
  assert variances[:3] == pytest.approx(expected)
  assert len(variances) == 12


def test_gains_by_quadrature_against_closed_forms():
  gain = signal_propagation.unit_variance_gain
  relu = np.sqrt(2 / (1 - 1 / np.pi))
  assert gain(jax.nn.relu) == pytest.approx(relu, rel=1e-6)
  assert gain(lambda x: 3 * x) == pytest.approx(1 / 3, rel=1e-6)
  assert gain(lambda x: x**2) == pytest.approx(np.sqrt(1 / 2), rel=1e-6)


def test_a_network_adds_alpha_squared_times_the_branch_in_every_block():
  # Within a stage, each block adds alpha^2 times the variance of its branch,
  # because branch and trunk are independent.
  config = {'depth': (2, 2, 2, 1), 'skip_gain_init': 1.0, 'width': 0.5}
  model = models.create_model('nfnet_f0', group_size=64, **config)
  params = {
    module: {
      name: np.ones_like(value) if 'gain' in name else value
      for name, value in leaves.items()
    }
    for module, leaves in filled.params(model).items()
  }
  with convolution.lowering('plain'):
    (_, endpoints), _ = jax.jit(model.apply, static_argnums=4)(
      params, {}, None, fill.image(2, 96), False
    )
  rows = signal_propagation.block_statistics(endpoints)
  assert len(rows) == 7
  for before, after in ((0, 1), (2, 3), (4, 5)):
    grown = rows[before].variance + 0.04 * rows[after].residual_variance
    np.testing.assert_allclose(rows[after].variance, grown, rtol=0.01)
