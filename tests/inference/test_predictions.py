"""The library behind python -m nfnets.predict."""

import os

import numpy as np
import pytest

from nfnets import errors, inference, weights
from nfnets.data import crops, images, presets
from nfnets.layers import convolution
from tests.data import pictures
from tests.weights import tiny


@pytest.fixture(autouse=True)
def _quick_to_compile():
  with convolution.lowering('plain'):
    yield


@pytest.fixture(scope='module')
def loaded(tmp_path_factory):
  path = tmp_path_factory.mktemp('weights') / 'file'
  tiny.save(path, class_names=[f'name {i}' for i in range(10)])
  return weights.load_model(path)


@pytest.fixture
def files(tmp_path):
  paths = [tmp_path / f'{name}.png' for name in 'abcde']
  for number, path in enumerate(paths):
    path.write_bytes(pictures.encode(pictures.digit(number)[0], '.png'))
  return paths


def _never(path, reason):
  raise AssertionError(f'{path}: {reason}')


def test_batch_size_does_not_change_predictions(loaded, files):
  one = list(inference.predict(loaded, files, 1, _never))
  assert [prediction.image for prediction in one] == list(map(str, files))
  for batch_size in (2, 5, 8):
    other = list(inference.predict(loaded, files, batch_size, _never))
    for a, b in zip(one, other, strict=True):
      assert a.image == b.image
      assert [g.name for g in a.guesses] == [g.name for g in b.guesses]
      np.testing.assert_allclose(
        [g.probability for g in a.guesses],
        [g.probability for g in b.guesses],
        rtol=1e-5,
      )


def test_guesses_are_the_most_likely_classes_in_order(loaded, files):
  (prediction,) = inference.predict(loaded, files[:1], 1, _never)
  probabilities = [guess.probability for guess in prediction.guesses]
  assert len(probabilities) == 5
  assert probabilities == sorted(probabilities, reverse=True)
  assert 0 < sum(probabilities) < 1
  for guess in prediction.guesses:
    assert guess.name == f'name {guess.label}'


def test_unreadable_files_are_reported_and_skipped(loaded, files):
  files[0].write_bytes(b'')
  files[2].unlink()
  files[3].write_bytes(files[3].read_bytes()[:80])
  files[4].unlink()
  os.mkfifo(files[4])
  reported = []
  predictions = list(
    inference.predict(loaded, files, 2, lambda *args: reported.append(args))
  )
  assert [p.image for p in predictions] == [str(files[1])]
  # The reasons are those of training (see `data.unreadable`).
  assert reported == [
    (files[0], 'empty file'),
    (files[2], 'No such file or directory'),
    (files[3], 'truncated PNG'),
    (files[4], 'not a regular file'),
  ]


@pytest.mark.parametrize('preset', presets.EVAL_PRESETS)
def test_images_are_cropped_with_the_preset_of_the_weights(
  loaded, files, preset
):
  config = loaded.model.config
  out, expected = np.zeros((2, 32, 32, 3), np.uint8)
  inference._make_read_into(loaded._replace(eval_preset=preset))(files[0], out)
  image = files[0].read_bytes()
  crops.eval_crop(image, expected, preset, config.crop_pct, config.crop_mode)
  np.testing.assert_array_equal(out, expected)


def test_unknown_preset_is_an_error(loaded, files):
  other = loaded._replace(eval_preset='torch')
  with pytest.raises(errors.UserError, match="preset 'torch' does not exist"):
    next(inference.predict(other, files, 1, _never))


def test_preprocessed_images_are_those_of_an_evaluation(loaded, files):
  config = loaded.model.config
  out = np.zeros((32, 32, 3), np.uint8)
  inference._make_read_into(loaded)(files[0], out)
  wanted = (out / 255 - np.array(config.mean)) / np.array(config.std)
  data = files[0].read_bytes()
  for image in (files[0], str(files[0]), data, images.decode(data)):
    found = inference.preprocess_image(image, loaded)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)
  for image, name in (
    (files[0].with_name('none'), 'none'),
    (b'x', 'the image'),
  ):
    with pytest.raises(errors.UserError, match=f'{name}: cannot be read: '):
      inference.preprocess_image(image, loaded)
