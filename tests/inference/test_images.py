"""Images are cropped for a network exactly as in an evaluation."""

import numpy as np
import pytest

from nfnets import errors, weights
from nfnets.data import crops, images, presets
from nfnets.inference import images as images_lib
from tests.data import pictures
from tests.weights import tiny


@pytest.fixture(scope='module')
def loaded(tmp_path_factory):
  path = tmp_path_factory.mktemp('weights') / 'file'
  tiny.save(path)
  return weights.load_model(path)


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'a.png'
  path.write_bytes(pictures.encode(pictures.digit(0)[0], '.png'))
  return path


@pytest.mark.parametrize('preset', presets.EVAL_PRESETS)
def test_the_preset_is_that_of_the_weights(loaded, file, preset):
  config = loaded.model.config
  out, expected = np.zeros((2, 32, 32, 3), np.uint8)
  images_lib.Cropper(loaded._replace(eval_preset=preset)).crop(file, out)
  image = file.read_bytes()
  crops.eval_crop(image, expected, preset, config.crop_pct, config.crop_mode)
  np.testing.assert_array_equal(out, expected)


def test_unknown_preset_is_an_error(loaded):
  other = loaded._replace(eval_preset='torch')
  with pytest.raises(errors.UserError, match="preset 'torch' does not exist"):
    images_lib.Cropper(other)


def test_preprocess_image(loaded, file):
  config = loaded.model.config
  out = np.zeros((32, 32, 3), np.uint8)
  images_lib.Cropper(loaded).crop(file, out)
  wanted = (out / 255 - np.array(config.mean)) / np.array(config.std)
  data = file.read_bytes()
  for image in (file, str(file), data, images.decode(data)):
    found = images_lib.preprocess_image(image, loaded)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)
  for image, name in ((file.with_name('none'), 'none'), (b'x', 'image')):
    with pytest.raises(errors.UserError, match=f'{name}: cannot be read: '):
      images_lib.preprocess_image(image, loaded)
