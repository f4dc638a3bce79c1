"""The analytic signal propagation of noise."""

import math

import jax
import numpy as np
import pytest

from nfnets import models
from nfnets.analysis import noise, signal_propagation


def measured(model, size, count):
  """Measures an untrained network on Gaussian images."""
  images = jax.random.normal(jax.random.key(1), (count, size, size, 3))
  params, state = model.init(jax.random.key(0), images[:1])

  @jax.jit
  def blocks(params, images):
    (_, endpoints), _ = model.apply(params, state, None, images, False)
    return {k: x for k, x in endpoints.items() if k.startswith('block_')}

  return signal_propagation.block_statistics(blocks(params, images))


def test_moments_against_closed_forms():
  relu = 1 / math.sqrt(2 * math.pi)
  mean, variance = noise.moments(jax.nn.relu, 1.0)
  assert mean == pytest.approx(relu, rel=1e-5)
  assert variance == pytest.approx(0.5 - relu**2, rel=1e-5)
  assert noise.moments(lambda x: x, 4.0) == pytest.approx((0.0, 4.0), abs=1e-5)
  # The maximum of two normal numbers.
  mean, variance = noise.moments(lambda x: x, 1.0, 2)
  assert mean == pytest.approx(1 / math.sqrt(math.pi), rel=1e-5)
  assert variance == pytest.approx(1 - 1 / math.pi, rel=1e-5)


@pytest.mark.parametrize(
  'arguments, expected',
  [
    (('same', 4, 3, 1), [2 / 3, 1, 1, 2 / 3]),
    (('same', 4, 3, 2), [1, 2 / 3]),
    (('symmetric', 4, 3, 2), [2 / 3, 1]),
    (('same', 5, 3, 2), [2 / 3, 1, 2 / 3]),
    (('same', 4, 1, 2), [1, 1]),
    (('same', 1, 3, 1), [1 / 3]),
  ],
)
def test_means_count_padding_as_0(arguments, expected):
  padding, size, kernel, stride = arguments
  found = noise.means(np.ones((size, size)), padding, kernel, stride)
  np.testing.assert_allclose(found, np.outer(expected, expected))


def test_means_are_those_that_a_convolution_reads():
  values = np.random.default_rng(0).uniform(size=(7, 6))
  for padding, stride in (('same', 2), ('symmetric', 2), ('same', 1)):
    expected = jax.lax.conv(
      values[None, None].astype(np.float32),
      np.full((1, 1, 3, 3), 1 / 9, np.float32),
      (stride, stride),
      'SAME' if padding == 'same' else [(1, 1), (1, 1)],
    )
    found = noise.means(values, padding, 3, stride)
    np.testing.assert_allclose(found, expected[0, 0], rtol=1e-5)


def test_a_border_is_read_less_often_than_it_loses_variance():
  # Two convolutions of unit noise and mean 0, without activation: each pixel
  # has the fraction of the window inside the image, in turn.
  model = models.create_model('nf_resnet50', stem='small')
  signal = noise._centered(np.ones((12, 12)))
  for _ in range(2):
    signal = noise._convolve(model.config, signal, 3, 1)
  edge = np.array([2 / 3, *[1] * 10, 2 / 3])
  again = np.convolve(edge, np.full(3, 1 / 3), 'same')
  np.testing.assert_allclose(signal.variance, np.outer(again, again))


def test_a_mean_contributes_at_the_border_only():
  # A filter of zero sum loses a fraction f of the window: f (1 - f) is left.
  model = models.create_model('nf_resnet50', stem='small')
  signal = noise._Signal(np.full((6, 6), 3.0), np.zeros((6, 6)))
  edge = np.array([2 / 3, 1, 1, 1, 1, 2 / 3])
  inside = np.outer(edge, edge)
  np.testing.assert_allclose(
    noise._convolve(model.config, signal, 3, 1).variance,
    9 * inside * (1 - inside),
    atol=1e-12,
  )


def test_the_mean_of_fewer_pixels_keeps_more_variance():
  pooled = noise._average_pool(np.ones((3, 4)))
  np.testing.assert_allclose(pooled, [[1 / 4, 1 / 4], [1 / 2, 1 / 2]])


def test_without_pooling_and_borders_the_variance_is_the_assumed_one():
  # ReLU is homogeneous, and the border of large images matters little.
  model = models.create_model('nf_resnet50', stem='small')
  rows = noise.variances(model.config, 1024)
  expected = signal_propagation.expected_variances(model.config)
  np.testing.assert_allclose([x.variance for x in rows], expected, rtol=0.01)
  np.testing.assert_allclose([x.residual_variance for x in rows], 1, rtol=0.02)


def test_pooling_divides_the_variance_of_noise_by_four():
  model = models.create_model('nfnet_f0', activation='relu', alpha=1e-3)
  variances = [x.variance for x in noise.variances(model.config, 512)]
  expected = [1.0] + [4**-1] * 2 + [4**-2] * 6 + [4**-3] * 3
  np.testing.assert_allclose(variances, expected, rtol=0.02)


def test_other_networks_have_no_analytic_variance():
  with pytest.raises(ValueError, match='resnet50 has no standardized'):
    noise.variances(models.create_model('resnet50').config, 32)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, options',
  [
    ('nf_resnet50', {'width': 1.0}),
    ('timm_nf_resnet50', {'width': 1.0}),
    ('nfnet_f0', {'width': 0.25, 'group_size': 32}),
  ],
)
def test_narrow_networks_are_near_the_analytic_variances(name, options):
  shape = {'depth': (1, 2, 1, 1), 'stem': 'small', 'skip_gain_init': 1.0}
  model = models.create_model(name, 10, **shape, **options)
  rows = measured(model, 32, 32)
  analytic = noise.variances(model.config, 32)
  for row, expected in zip(rows, analytic, strict=True):
    # Of 64 channels and more; the wider, the nearer.
    np.testing.assert_allclose(row.variance, expected.variance, rtol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, size', [('nf_resnet50', 224), ('nfnet_f0', 192)]
)
def test_published_networks_have_the_analytic_variances(name, size):
  model = models.create_model(name, 10, skip_gain_init=1.0)
  rows = measured(model, size, 8)
  analytic = noise.variances(model.config, size)
  for row, expected in zip(rows, analytic, strict=True):
    np.testing.assert_allclose(row.variance, expected.variance, rtol=0.05)
    np.testing.assert_allclose(
      row.residual_variance, expected.residual_variance, rtol=0.1
    )


@pytest.mark.slow
def test_nf_resnet50_has_the_variances_that_beta_assumes():
  model = models.create_model('nf_resnet50', 10, skip_gain_init=1.0)
  rows = measured(model, 224, 8)
  expected = signal_propagation.expected_variances(model.config)
  found = [row.variance for row in rows]
  np.testing.assert_allclose(found, expected, rtol=0.05)
