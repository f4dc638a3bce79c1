"""Edits of small images, against NumPy and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.augment import edits


@pytest.fixture
def image():
  return np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def test_identity_changes_nothing(image):
  result = edits.apply(image, edits.identity())
  assert result.dtype == jnp.uint8
  np.testing.assert_array_equal(result, image)


def test_statistics_equal_numpy(image):
  stats = edits.image_stats(jnp.asarray(image))
  assert (stats.height, stats.width) == (5, 7)
  for channel in range(3):
    expected = np.bincount(image[..., channel].ravel(), minlength=256)
    np.testing.assert_array_equal(stats.histogram[channel], expected)
  luma = np.rint(image @ np.array([0.299, 0.587, 0.114]))
  assert abs(int(stats.gray) - luma.mean()) <= 1


def test_histogram_is_empty_if_not_requested(image):
  stats = edits.image_stats(jnp.asarray(image), jnp.bool_(False))
  assert not stats.histogram.any()


def test_matrix_shifts_and_fills_with_gray(image):
  # The output at (x, y) shows the input at (x + 2, y - 1).
  edit = edits.identity()._replace(
    matrix=jnp.array([1.0, 0.0, 2.0, 0.0, 1.0, -1.0])
  )
  expected = np.full_like(image, edits.FILL)
  expected[1:, :-2] = image[:-1, 2:]
  np.testing.assert_array_equal(edits.apply(image, edit), expected)


def test_table_maps_each_channel_by_its_own_row(image):
  table = np.random.default_rng(1).integers(0, 256, (3, 256), np.uint8)
  edit = edits.identity()._replace(table=jnp.asarray(table))
  expected = np.stack([table[c][image[..., c]] for c in range(3)], axis=-1)
  np.testing.assert_array_equal(edits.apply(image, edit), expected)


def test_box_is_filled_and_may_exceed_the_image(image):
  edit = edits.identity()._replace(box=jnp.array([[-3, 2], [4, 99]]))
  expected = image.copy()
  expected[:2, 4:] = edits.FILL
  np.testing.assert_array_equal(edits.apply(image, edit), expected)


def test_blend_with_the_blurred_image_keeps_the_border(image):
  edit = edits.identity()._replace(factor=jnp.float32(0))
  expected = image.astype(int)
  for y in range(1, 4):
    for x in range(1, 6):
      window = image[y - 1 : y + 2, x - 1 : x + 2].astype(int)
      total = window.sum(axis=(0, 1)) + 4 * image[y, x].astype(int)
      expected[y, x] = (total + 6) // 13
  np.testing.assert_array_equal(edits.apply(image, edit), expected)


@pytest.mark.parametrize(
  ('factor', 'expected'),
  [(0.0, [100, 100, 100]), (1.0, [0, 101, 255]), (1.9, [0, 101, 255])],
)
def test_blend_truncates_and_clips(factor, expected):
  levels = jnp.array([0, 101, 255])
  result = edits.blend(jnp.int32(100), levels, jnp.float32(factor))
  np.testing.assert_array_equal(result, expected)
