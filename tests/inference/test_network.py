"""Networks in use give what model.apply gives."""

import functools
import os

import jax
import numpy as np
import pytest

import nfnets
from nfnets import errors, weights
from nfnets.augment import preprocess
from nfnets.inference import images as images_lib
from nfnets.inference import network as network_lib
from tests.data import pictures


@pytest.fixture(scope='module')
def network(weights_file):
  return nfnets.load(weights_file)


@pytest.fixture
def files(tmp_path):
  paths = [tmp_path / f'{name}.png' for name in 'abcde']
  for number, path in enumerate(paths):
    path.write_bytes(pictures.encode(pictures.digit(number)[0], '.png'))
  return paths


def _apply(weights_file, files):
  """Returns logits and endpoints of the crops, without the class."""
  loaded = weights.load_model(weights_file)
  config = loaded.model.config
  crops = np.zeros((len(files), 32, 32, 3), np.uint8)
  for path, crop in zip(files, crops, strict=True):
    images_lib.Cropper(loaded).crop(path, crop)
  inputs = preprocess.normalize(crops, config.mean, config.std)
  (logits, endpoints), _ = jax.jit(loaded.model.apply, static_argnums=4)(
    loaded.params, loaded.state, None, inputs, False
  )
  return logits, endpoints


def _never(name, reason):
  raise AssertionError(f'{name}: {reason}')


@pytest.mark.parametrize('batch_size', [1, 2, 8])
def test_predictions_are_those_of_apply(
  network, weights_file, files, batch_size
):
  found = network.predict(files, batch_size)
  expected = jax.nn.softmax(_apply(weights_file, files)[0])
  assert found.images == tuple(map(str, files))
  np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)
  best = np.argmax(expected, 1)
  assert found.classes == [f'name {i}' for i in best]
  for guesses, row in zip(found.top(3), expected, strict=True):
    assert [g.label for g in guesses] == np.argsort(-row)[:3].tolist()
    assert [g.name for g in guesses] == [f'name {g.label}' for g in guesses]


def test_networks_compute_in_float32(network):
  """On CPUs bfloat16 is slower."""
  images = np.zeros((1, 32, 32, 3), np.uint8)
  run = jax.jit(
    functools.partial(network_lib._run, network._folded, ('probabilities',))
  )
  text = run.lower(*network._arrays, images).as_text()
  assert 'f32' in text and 'bf16' not in text


def test_embeddings_and_feature_maps_are_the_endpoints(
  network, weights_file, files
):
  _, endpoints = _apply(weights_file, files)
  scale = float(np.std(endpoints['pool']))
  np.testing.assert_allclose(
    network.embed(files), endpoints['pool'], rtol=1e-4, atol=1e-4 * scale
  )
  maps = network.features(files, (8, 32))
  assert maps.keys() == {8, 32}
  for stride, found in maps.items():
    expected = endpoints[f'stride_{stride}']
    scale = float(np.std(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * scale)
  with pytest.raises(errors.UserError, match="no output 'stride_5'; it has"):
    network.features(files, (5,))


def test_images_in_any_form(network, files):
  expected = network.predict(files[0]).probabilities
  digit = pictures.digit(0)[0]
  for images in (
    str(files[0]),
    [files[0]],
    files[0].read_bytes(),
    digit,
    digit[None],
    [digit],
  ):
    np.testing.assert_array_equal(
      network.predict(images).probabilities, expected
    )
  assert network.predict(files[0].parent).images == tuple(map(str, files))
  assert network.predict(digit).images == ('image',)


def test_bad_images_are_errors_that_name_them(network, files):
  files[1].write_bytes(b'')
  for images, message in (
    (files, 'b.png: cannot be read: empty file'),
    ([], 'images is empty'),
    (np.zeros((4, 4)), r'the image is float64\[4, 4\]: pass uint8'),
    (files[0].parent / 'none', 'none'),
  ):
    with pytest.raises(errors.UserError, match=message):
      network.predict(images)


def test_a_stream_reports_unreadable_images_and_continues(network, files):
  files[0].write_bytes(b'')
  files[2].unlink()
  files[3].write_bytes(files[3].read_bytes()[:80])
  files[4].unlink()
  os.mkfifo(files[4])
  reported = []
  stream = network.stream(
    files, ['pool'], 2, lambda *arguments: reported.append(arguments)
  )
  found = list(stream)
  assert [name for name, _ in found] == [str(files[1])]
  # The reasons are those of training (see `data.unreadable`).
  assert reported == [
    (str(files[0]), 'empty file'),
    (str(files[2]), 'No such file or directory'),
    (str(files[3]), 'truncated PNG'),
    (str(files[4]), 'not a regular file'),
  ]


def test_a_stream_reads_one_batch_at_a_time(network, files):
  read = []

  def paths():
    for path in files:
      read.append(path)
      yield path

  next(network.stream(paths(), ['pool'], 2, _never))
  assert len(read) == 2


def test_a_backbone_has_embeddings_but_no_classes(network, weights_file, files):
  loaded = weights.load_model(weights_file, num_classes=0)
  backbone = network_lib.Network(loaded)
  np.testing.assert_allclose(
    backbone.embed(files), network.embed(files), rtol=1e-5
  )
  with pytest.raises(errors.UserError, match="no output 'probabilities'"):
    backbone.predict(files)


def test_preprocessed_images_are_those_of_an_evaluation(
  network, weights_file, files
):
  loaded = weights.load_model(weights_file)
  config = loaded.model.config
  out = np.zeros((32, 32, 3), np.uint8)
  images_lib.Cropper(loaded).crop(files[0], out)
  wanted = (out / 255 - np.array(config.mean)) / np.array(config.std)
  found = network.preprocess(files[0])
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, wanted, atol=1e-5)
