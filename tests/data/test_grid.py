import cv2
import numpy as np
import pytest

from nfnets import errors
from nfnets.data import grid


def read(path):
  return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def test_images_are_complete_and_in_order(tmp_path):
  images = np.random.default_rng(0).integers(
    0, 256, (5, 120, 130, 3), dtype=np.uint8
  )
  grid.write_grid(tmp_path / 'x.png', images, list('abcde'))
  sheet = read(tmp_path / 'x.png')
  height, width = 120 + 18 + 8, 130 + 8
  assert sheet.shape == (2 * height, 3 * width, 3)
  for number, image in enumerate(images):
    top, left = (number // 3) * height + 4, (number % 3) * width + 4
    cell = sheet[top : top + 120, left : left + 130]
    np.testing.assert_array_equal(cell, image)
  # The last cell is blank.
  assert (sheet[height:, 2 * width :] == 235).all()


def test_small_images_are_enlarged_by_a_whole_number(tmp_path):
  image = np.zeros((1, 8, 8, 3), np.uint8)
  image[0, 0, 0] = 255, 0, 0
  grid.write_grid(tmp_path / 'x.png', image, ['a'])
  sheet = read(tmp_path / 'x.png')
  assert sheet.shape == (112 + 26, 112 + 8, 3)
  assert (sheet[4:18, 4:18] == [255, 0, 0]).all()
  assert not sheet[4:116, 18:116].any()


def test_captions_are_drawn_and_cut_off(tmp_path):
  images = np.zeros((4, 112, 112, 3), np.uint8)
  captions = ['short', 'i' * 500, '日本語', '']
  grid.write_grid(tmp_path / 'x.png', images, captions)
  sheet = read(tmp_path / 'x.png')
  strips = [
    sheet[y + 117 : y + 138, x : x + 120] for y in (0, 138) for x in (0, 120)
  ]
  dark = [(strip < 128).any() for strip in strips]
  assert dark == [True, True, True, False]
  # Nothing is drawn to the right of the image.
  assert (strips[1][:, -3:] == 235).all()


@pytest.mark.parametrize('captions', [[], ['a'], ['a', 'b', 'c']])
def test_number_of_captions_must_match(tmp_path, captions):
  images = np.zeros((2 if captions else 0, 8, 8, 3), np.uint8)
  with pytest.raises(ValueError, match=f'{len(captions)} captions'):
    grid.write_grid(tmp_path / 'x.png', images, captions)


def test_unwritable_path_is_an_error(tmp_path):
  with pytest.raises(errors.UserError, match='nope/x.png: cannot be written'):
    grid.write_grid(
      tmp_path / 'nope/x.png', np.zeros((1, 8, 8, 3), np.uint8), ['a']
    )
