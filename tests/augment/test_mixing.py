"""MixUp and CutMix: the label is the fraction of the pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from nfnets.augment import mixing

COUNT = 4000
LABELS = jnp.eye(2)


@functools.cache
def mixed(mix, alpha, height=24, width=36):
  """Mixes a white image with a black one, many times."""
  white = jnp.ones((height, width, 1))
  images = jnp.stack([white, jnp.zeros_like(white)])
  keys = jax.random.split(jax.random.key(0), COUNT)
  fn = functools.partial(mix, images=images, labels=LABELS, alpha=alpha)
  return jax.tree.map(np.asarray, jax.jit(jax.vmap(fn))(keys))


@pytest.mark.parametrize('mix', [mixing.mixup, mixing.cutmix])
def test_label_is_the_fraction_of_the_pixels(mix):
  images, labels = mixed(mix, 1.0)
  fraction = images.mean(axis=(1, 2, 3), dtype=np.float64)
  np.testing.assert_allclose(labels[:, 0], fraction, rtol=0, atol=1e-6)
  np.testing.assert_allclose(labels[:, 1], 1 - fraction, rtol=0, atol=1e-6)


@pytest.mark.parametrize('alpha', [0.2, 1.0, 3.0])
def test_mixup_draws_from_a_beta_distribution(alpha):
  fraction = np.float64(mixed(mixing.mixup, alpha)[1][:, 0])
  assert stats.kstest(fraction, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_mixup_weighs_all_pixels_equally():
  images, labels = mixed(mixing.mixup, 0.2)
  expected = np.broadcast_to(labels[:, :1, None, None], images.shape)
  np.testing.assert_array_equal(images, expected)


def test_cutmix_pastes_a_box_of_the_first_image():
  images, _ = mixed(mixing.cutmix, 1.0)
  assert set(np.unique(images)) == {0, 1}
  rows, columns = images.max(axis=(2, 3)), images.max(axis=(1, 3))
  np.testing.assert_array_equal(
    images[..., 0], rows[:, :, None] * columns[:, None, :]
  )
  # The rows are contiguous, and so are the columns: at most one step up and
  # one step down.
  for covered in (rows, columns):
    assert np.abs(np.diff(covered, axis=1)).sum(axis=1).max() <= 2


def test_cutmix_boxes_have_the_published_area():
  # Sides s = sqrt(1 - lam) with lam uniform, and a uniform center: after
  # clipping, s - s^2 / 4 of an axis is covered on average, and the integral of
  # its square over lam is 1/2 - 1/5 + 1/48.
  _, labels = mixed(mixing.cutmix, 1.0, 192, 192)
  np.testing.assert_allclose(labels[:, 0].mean(), 0.3208, atol=0.02)


def test_cutmix_boxes_keep_the_aspect_ratio_of_the_image():
  images, labels = mixed(mixing.cutmix, 1.0)
  rows = images.max(axis=(2, 3))
  columns = images.max(axis=(1, 3))
  # Boxes that are not clipped at an edge.
  whole = (rows[:, [0, -1]].sum(1) == 0) & (columns[:, [0, -1]].sum(1) == 0)
  height, width = rows[whole].sum(1), columns[whole].sum(1)
  assert whole.sum() > 100
  assert np.abs(height * 36 / 24 - width).max() < 2


@pytest.mark.parametrize('lam', [0.0, 1.0])
def test_extreme_weights_return_one_image(lam, monkeypatch):
  monkeypatch.setattr(mixing, '_beta', lambda *_: jnp.float32(lam))
  images = jax.random.uniform(jax.random.key(1), (2, 4, 4, 3)) * 255
  image, label = mixing.mixup(jax.random.key(0), images, LABELS, alpha=1.0)
  expected = images[0 if lam else 1]
  np.testing.assert_allclose(image, expected, atol=2e-5)
  np.testing.assert_array_equal(label, LABELS[0 if lam else 1])


@pytest.mark.parametrize('mix', [mixing.mixup, mixing.cutmix])
def test_bytes_are_mixed_as_floats(mix):
  bits = jax.random.bits(jax.random.key(1), (2, 4, 4, 3), jnp.uint8)
  image, _ = mix(jax.random.key(0), bits, LABELS, alpha=1.0)
  expected, _ = mix(
    jax.random.key(0), bits.astype(jnp.float32), LABELS, alpha=1.0
  )
  assert image.dtype == jnp.float32
  np.testing.assert_array_equal(image, expected)
