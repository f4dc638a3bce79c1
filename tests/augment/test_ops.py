"""Compares each operation with Pillow, on photographs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn import datasets

from nfnets.augment import edits, ops
from tests.augment import operation

MAGNITUDES = (1, 5, 7, 10, 15)
FILL = (128, 128, 128)
# The products with one-hot matrices that TPUs need are slow on a CPU: they see
# only the crop.
WAYS = pytest.mark.parametrize('for_tpu', [False, True], ids=['', 'for TPU'])


@pytest.fixture(scope='module')
def photographs() -> list[np.ndarray]:
  """Returns two whole photographs and a crop that is not square."""
  china, flower = datasets.load_sample_images().images
  return [china, flower, flower[100:292, 200:361]]


def apply(name, image, magnitude, seed=0, **options):
  apply_fn = operation.jitted(name, **options)
  result = np.asarray(apply_fn(jax.random.key(seed), image, magnitude))
  assert result.dtype == np.uint8
  return result


def distance(image, expected):
  return np.abs(image.astype(int) - np.asarray(expected).astype(int))


def enhanced(enhancer, image, magnitude):
  return enhancer(image).enhance(magnitude / 10 * 1.8 + 0.1)


def solarize_added(image, magnitude):
  added = int(magnitude / 10 * 110)
  table = [min(v + added, 255) if v < 128 else v for v in range(256)]
  return image.point(3 * table)


COLOR_OPS = {
  'autocontrast': lambda image, magnitude: ImageOps.autocontrast(image),
  'equalize': lambda image, magnitude: ImageOps.equalize(image),
  'invert': lambda image, magnitude: ImageOps.invert(image),
  'posterize': lambda image, magnitude: ImageOps.posterize(
    image, max(int(magnitude / 10 * 4), 1)
  ),
  'solarize': lambda image, magnitude: ImageOps.solarize(
    image, int(magnitude / 10 * 256)
  ),
  'solarize_add': solarize_added,
  'color': lambda *a: enhanced(ImageEnhance.Color, *a),
  'contrast': lambda *a: enhanced(ImageEnhance.Contrast, *a),
  'brightness': lambda *a: enhanced(ImageEnhance.Brightness, *a),
  'sharpness': lambda *a: enhanced(ImageEnhance.Sharpness, *a),
}


@WAYS
@pytest.mark.parametrize('name', COLOR_OPS)
def test_color_operation_equals_pillow(name, for_tpu, photographs):
  for image in photographs[2 * for_tpu :]:
    for magnitude in MAGNITUDES:
      expected = COLOR_OPS[name](Image.fromarray(image), magnitude)
      result = apply(name, image, magnitude, for_tpu=for_tpu)
      assert distance(result, expected).max() <= 1


def affine(image, *matrix):
  return image.transform(image.size, Image.AFFINE, matrix, fillcolor=FILL)


GEOMETRIC_OPS = {
  'rotate': lambda image, s: image.rotate(s * 30, fillcolor=FILL),
  'shear_x': lambda image, s: affine(image, 1, s * 0.3, 0, 0, 1, 0),
  'shear_y': lambda image, s: affine(image, 1, 0, 0, s * 0.3, 1, 0),
  'translate_x': lambda image, s: affine(image, 1, 0, s * 100, 0, 1, 0),
  'translate_y': lambda image, s: affine(image, 1, 0, 0, 0, 1, s * 100),
}


@WAYS
@pytest.mark.parametrize('name', GEOMETRIC_OPS)
def test_geometric_operation_equals_pillow(name, for_tpu, photographs):
  signs = set()
  for seed in range(4):
    sign = float(jax.random.rademacher(jax.random.key(seed), (), jnp.float32))
    signs.add(sign)
    for image in photographs[2 * for_tpu :]:
      for magnitude in MAGNITUDES:
        pillow = Image.fromarray(image)
        expected = GEOMETRIC_OPS[name](pillow, sign * magnitude / 10)
        result = apply(name, image, magnitude, seed, for_tpu=for_tpu)
        wrong = distance(result, expected) > 0
        assert wrong.mean() < 1e-4
  assert signs == {-1.0, 1.0}


def test_every_operation_is_compared():
  names = ops.operations(reference_quirks=False)
  assert set(names) == {*COLOR_OPS, *GEOMETRIC_OPS, 'cutout'}
  assert len(names) == 16


@pytest.mark.parametrize('magnitude', [5, 10, 15])
def test_cutout_fills_a_clipped_square(magnitude, photographs):
  # No pixel of this image has the level of the filling.
  image = np.where(photographs[2] == 128, np.uint8(127), photographs[2])
  half = int(magnitude / 10 * 40)
  height, width, _ = image.shape
  centers = set()
  for seed in range(8):
    result = apply('cutout', image, magnitude, seed)
    filled = (result == 128).all(axis=-1)
    np.testing.assert_array_equal(result[~filled], image[~filled])
    for axis, length in ((1, height), (0, width)):
      covered = np.flatnonzero(filled.any(axis=axis))
      first, end = covered[0], covered[-1] + 1
      assert end - first == 2 * half or first == 0 or end == length
      assert end - first <= 2 * half
    centers.add((first, end))
    assert filled.sum() == filled.any(0).sum() * filled.any(1).sum()
  assert len(centers) > 4


def test_the_cutout_center_is_uniform():
  image = np.zeros((8, 4, 3), np.uint8)
  keys = jax.random.split(jax.random.key(0), 4000)
  cutout = operation.jitted('cutout')
  cut = jax.jit(jax.vmap(cutout, (0, None, None)))(keys, image, 0.25)
  # Half of the side is one pixel, so the last pixel filled is the center.
  backwards = np.asarray(cut)[:, ::-1, ::-1, 0].reshape(4000, -1) == 128
  counts = np.bincount(backwards.argmax(axis=1), minlength=32)
  # Each position is expected 125 times; 5 standard deviations are 55.
  assert counts.min() > 70
  assert counts.max() < 180


DISTANCES = {'translate_x', 'translate_y', 'cutout'}


def edit_of(name, height, width, magnitude, seed=0, *, relative):
  operation = ops.operations(reference_quirks=False, relative=relative)[name]
  blank = edits.image_stats(np.zeros((height, width, 3), np.uint8), False)
  return operation(jax.random.key(seed), blank, magnitude)


@pytest.mark.parametrize('name', sorted(DISTANCES))
def test_relative_distances_at_224_pixels_are_the_published_ones(name):
  for magnitude in (*MAGNITUDES, 12.5):
    for seed in range(2):
      published, relative = (
        edit_of(name, 224, 224, magnitude, seed, relative=relative)
        for relative in (False, True)
      )
      jax.tree.map(np.testing.assert_array_equal, published, relative)


@pytest.mark.parametrize('magnitude', [5, 10])
def test_relative_distances_scale_with_the_image(magnitude):
  """100 and 40 pixels of 224 are 50 and 20 of 112, 25 and 10 of 56."""
  for name, index, top in (('translate_x', 2, 50), ('translate_y', 5, 25)):
    edit = edit_of(name, 56, 112, magnitude, relative=True)
    assert abs(float(edit.matrix[index])) == magnitude * top / 10
  box = edit_of('cutout', 56, 112, magnitude, relative=True).box
  np.testing.assert_array_equal(box[:, 1] - box[:, 0], 2 * magnitude)


def test_published_distances_do_not_depend_on_the_image():
  for size in (32, 300):
    for name, index in (('translate_x', 2), ('translate_y', 5)):
      edit = edit_of(name, size, size, 5, relative=False)
      assert abs(float(edit.matrix[index])) == 50
    box = edit_of('cutout', size, size, 5, relative=False).box
    np.testing.assert_array_equal(box[:, 1] - box[:, 0], 40)


def test_relative_changes_no_other_operation():
  for quirks in (False, True):
    published = ops.operations(reference_quirks=quirks)
    relative = ops.operations(reference_quirks=quirks, relative=True)
    assert list(published) == list(relative)
    changed = {x for x in published if published[x] is not relative[x]}
    assert changed == DISTANCES


@pytest.mark.parametrize('name', ['color', 'contrast', 'brightness'])
def test_magnitude_5_of_an_enhancement_changes_nothing(name, photographs):
  np.testing.assert_array_equal(apply(name, photographs[0], 5), photographs[0])


@pytest.mark.parametrize('magnitude, threshold', [(5, 128), (10, 0), (15, 128)])
def test_published_solarize_wraps_its_threshold_around(
  magnitude, threshold, photographs
):
  image = photographs[2]
  result = apply('solarize', image, magnitude, reference_quirks=True)
  expected = ImageOps.solarize(Image.fromarray(image), threshold)
  np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize('size, mean', [(192, 144), (224, 196), (300, 255)])
def test_published_contrast_computes_its_mean_from_the_size(size, mean):
  image = np.full((size, size, 3), 100, np.uint8)
  result = apply('contrast', image, 10, reference_quirks=True)
  expected = int(max(mean + 1.9 * (100 - mean), 0))
  np.testing.assert_array_equal(result, np.full_like(image, expected))


@pytest.mark.parametrize('name', ['autocontrast', 'equalize', 'contrast'])
def test_image_of_one_color_equals_pillow(name):
  image = np.broadcast_to(np.uint8([3, 128, 255]), (16, 8, 3))
  expected = COLOR_OPS[name](Image.fromarray(image.copy()), 10)
  assert distance(apply(name, image, 10), expected).max() <= 1


def test_scaled_integers_equal_the_published_ones():
  for magnitude in range(21):
    for top in (4, 40, 110, 256):
      assert int(ops._scaled_int(magnitude, top)) == int(magnitude / 10 * top)
