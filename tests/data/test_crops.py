import tracemalloc

import numpy as np
import pytest
from PIL import Image

from nfnets import errors
from nfnets.data import crops, images, presets
from tests.data import pictures


def draws(count, seed=0):
  return np.random.default_rng(seed).random((count, crops.DRAWS_PER_CROP))


def boxes(height, width, count=4000, **ranges):
  return [
    crops.random_crop_box(height, width, draw, **ranges)
    for draw in draws(count)
  ]


@pytest.mark.parametrize('size', [(375, 500), (500, 375), (64, 64), (8, 8)])
def test_boxes_are_inside_the_image_and_in_their_ranges(size):
  height, width = size
  for box in boxes(height, width, 2000):
    assert 0 <= box.top <= height - box.height
    assert 0 <= box.left <= width - box.width
    assert 0.08 <= box.height * box.width / (height * width) <= 1
    # Sides are rounded to whole pixels.
    assert 3 / 4 - 1 / box.height <= box.width / box.height
    assert box.width / box.height <= 4 / 3 + 1 / box.height


def test_boxes_reach_both_ends_of_their_ranges():
  found = np.array(boxes(375, 500))
  area = found[:, 2] * found[:, 3] / (375 * 500)
  aspect = found[:, 3] / found[:, 2]
  assert area.min() < 0.085 and area.max() > 0.95
  assert aspect.min() < 0.76 and aspect.max() > 1.32
  assert found[:, 0].min() == 0 and (found[:, 0] + found[:, 2]).max() == 375
  assert found[:, 1].min() == 0 and (found[:, 1] + found[:, 3]).max() == 500


def test_height_and_aspect_are_uniform():
  # In a square image, with areas that always fit, nothing is clipped.
  found = np.array(boxes(1000, 1000, area_range=(0.1, 0.3)))
  aspect = found[:, 3] / found[:, 2]
  low, high = np.sqrt(0.1e6 / aspect), np.sqrt(0.3e6 / aspect)
  height = (found[:, 2] - low) / (high - low)
  for values in ((aspect - 3 / 4) / (4 / 3 - 3 / 4), height):
    quartiles = np.quantile(values, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quartiles, [0.25, 0.5, 0.75], atol=0.03)


def test_center_crop_after_ten_failures():
  # No crop with an aspect ratio in the range covers 90% of a thin strip.
  box = crops.random_crop_box(100, 1000, draws(1)[0], area_range=(0.9, 1.0))
  assert box == crops.Box(0, 433, 100, 133)
  box = crops.random_crop_box(1000, 100, draws(1)[0], area_range=(0.9, 1.0))
  assert box == crops.Box(433, 0, 133, 100)


def test_single_pixel():
  box = crops.random_crop_box(1, 1, draws(1)[0])
  assert box == crops.Box(0, 0, 1, 1)


def test_random_resized_crop_is_its_box():
  # Pixel values encode positions: a ramp in each direction.
  rows, columns = np.mgrid[:200, :250]
  image = np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)
  for draw in draws(20):
    out = np.zeros((32, 32, 3), np.uint8)
    crops.random_resized_crop(image, draw, out)
    box = crops.random_crop_box(200, 250, draw)
    step = box.height / 32
    expected = box.top + (np.arange(32) + 0.5) * step - 0.5
    np.testing.assert_allclose(out[2:-2, 16, 0], expected[2:-2], atol=1.01)
    step = box.width / 32
    expected = box.left + (np.arange(32) + 0.5) * step - 0.5
    np.testing.assert_allclose(out[16, 2:-2, 1], expected[2:-2], atol=1.01)


def test_scaled_decoding_gives_the_same_crop():
  # A smooth image, for which antialiasing makes no difference.
  large = np.asarray(
    Image.fromarray(pictures.photograph(12, 16)).resize((800, 600))
  )
  data = pictures.encode(large)
  for draw in draws(10):
    exact, scaled = np.zeros((2, 32, 32, 3), np.uint8)
    crops.random_resized_crop(data, draw, exact)
    crops.random_resized_crop(data, draw, scaled, scaled_decoding=True)
    assert (exact != scaled).any()
    assert np.abs(exact.astype(int) - scaled).mean() < 1.5


def test_scaled_decoding_does_not_change_small_crops():
  data = pictures.encode(pictures.photograph())
  for draw in draws(10):
    exact, scaled = np.zeros((2, 96, 96, 3), np.uint8)
    crops.random_resized_crop(data, draw, exact)
    crops.random_resized_crop(data, draw, scaled, scaled_decoding=True)
    np.testing.assert_array_equal(exact, scaled)


def ramp(height, width):
  rows, columns = np.mgrid[:height, :width].astype(float)
  scaled = [255 * rows / (height - 1), 255 * columns / (width - 1), 0 * rows]
  return np.stack(scaled, -1).astype(np.uint8)


def evaluate(image, size, preset, crop_pct=0.9, crop_mode='squash'):
  out = np.zeros((size, size, 3), np.uint8)
  crops.eval_crop(image, out, preset, crop_pct, crop_mode)
  return out


@pytest.mark.parametrize(
  ('settings', 'top', 'left'),
  [
    # The first visible row and column, as fractions of the image.
    (('deepmind',), 16 / 96, 16 / 96),
    # The centered square with 64 / 96 of the shorter side.
    (('deepmind_crop',), 1 / 6, (300 - 200 / 3) / 600),
    (('timm', 0.8, 'squash'), 0.1, 0.1),
    (('timm', 0.8, 'center'), 0.1, (300 - 80) / 600),
    (('timm', 1.0, 'center'), 0.0, (300 - 100) / 600),
  ],
)
def test_presets_crop_the_right_part(settings, top, left):
  out = evaluate(ramp(200, 600), 64, *settings).astype(float)
  # Tolerates half a pixel of the output, and rounding.
  np.testing.assert_allclose(out[0, 32, 0] / 255, top, atol=0.012)
  np.testing.assert_allclose(out[32, 0, 1] / 255, left, atol=0.012)
  np.testing.assert_allclose(out[-1, 32, 0] / 255, 1 - top, atol=0.012)
  np.testing.assert_allclose(out[32, -1, 1] / 255, 1 - left, atol=0.012)


@pytest.mark.parametrize('mode', ['squash', 'center'])
def test_timm_preset_against_pillow(mode):
  image = pictures.photograph(150, 200)
  side = int(48 / 0.9)
  size = (side, side) if mode == 'squash' else (side * 200 // 150, side)
  pillow = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
  left, top = round((size[0] - 48) / 2), round((size[1] - 48) / 2)
  expected = np.asarray(pillow.crop((left, top, left + 48, top + 48)))
  ours = evaluate(image, 48, 'timm', 0.9, mode)
  assert np.abs(ours.astype(int) - expected).max() <= 1


def test_published_presets_do_not_antialias():
  # The middle two of every four columns are white.
  image = np.zeros((384, 384, 3), np.uint8)
  image[:, 1::4] = image[:, 2::4] = 255
  assert evaluate(image, 64, 'deepmind').min() > 250
  assert abs(evaluate(image, 64, 'timm', 64 / 96).mean() - 127.5) < 5


@pytest.mark.parametrize(
  ('settings', 'shown'),
  [
    (('torch', 0.9, 'squash'), 'torch'),
    (('timm', 0.9, 'stretch'), 'stretch'),
    (('timm', 0, 'squash'), 'crop_pct 0 '),
  ],
)
def test_unknown_settings_are_an_error(settings, shown):
  with pytest.raises(errors.UserError, match=shown):
    crops.check_preset(*settings)


def test_known_settings_pass():
  for preset in presets.EVAL_PRESETS:
    assert crops.check_preset(preset, 1.0, 'center') == preset


def test_eval_crop_decodes_files():
  image = pictures.photograph()
  decoded = evaluate(pictures.encode(image, '.png'), 32, 'deepmind')
  np.testing.assert_array_equal(decoded, evaluate(image, 32, 'deepmind'))
  with pytest.raises(images.DecodeError, match='empty file'):
    evaluate(b'', 32, 'deepmind')


@pytest.mark.parametrize('shape', [(1, 60_000), (60_000, 1), (1, 1600), (3, 9)])
@pytest.mark.parametrize(
  'preset, mode',
  [
    ('timm', 'center'),
    ('timm', 'squash'),
    ('deepmind', 'squash'),
    ('deepmind_crop', 'squash'),
  ],
)
def test_long_images_take_little_memory(shape, preset, mode):
  image = np.full((*shape, 3), 7, np.uint8)
  data = pictures.encode(image, '.png')
  out = np.empty((224, 224, 3), np.uint8)
  tracemalloc.start()
  try:
    crops.eval_crop(data, out, preset, 0.9, mode)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert (out == 7).all()
  assert peak < 200e6


def test_crops_pass_the_limit_of_pixels_on():
  data = pictures.encode(pictures.photograph())
  out = np.empty((8, 8, 3), np.uint8)
  draws = np.zeros(crops.DRAWS_PER_CROP)
  for scaled in (False, True):
    with pytest.raises(images.DecodeError, match='max_pixels=100'):
      crops.random_resized_crop(
        data, draws, out, scaled_decoding=scaled, max_pixels=100
      )
  with pytest.raises(images.DecodeError, match='max_pixels=100'):
    crops.eval_crop(data, out, 'deepmind', 0.9, 'squash', max_pixels=100)
