"""Settings to sources, batches and preprocessing."""

import jax
import numpy as np
import pytest

from nfnets import errors
from nfnets.data import pipeline
from nfnets.experiment import build, command_line, inputs, recipes
from nfnets.experiment import config as config_lib


@pytest.fixture
def config():
  config = config_lib.base()
  config.dataset = 'digits'
  config.model.name = 'nfnet_f0'
  config.model.width = 0.0625
  config.model.group_size = 8
  config.train.batch_size = 8
  return config


@pytest.fixture
def reading(monkeypatch):
  """Collects what the pipeline is called with."""
  calls = []
  for name in ('train_batches', 'eval_batches'):
    monkeypatch.setattr(
      pipeline, name, lambda source, **settings: calls.append(settings)
    )
  return calls


def test_image_sizes_default_to_those_of_the_model(config, reading):
  model = build.make_model(config, 10)
  inputs.train_batches(config, None, model, 1)
  inputs.eval_batches(config, range(5000), model)
  config.data.image_size, config.data.eval_size = 32, 48
  inputs.train_batches(config, None, model, 1)
  inputs.eval_batches(config, range(5000), model)
  assert [call['image_size'] for call in reading] == [192, 256, 32, 48]


def test_image_sizes_grow_to_those_of_the_model(config, reading):
  model = build.make_model(config, 10)
  assert inputs.image_sizes(config, model, 8) == ((0, 192),)
  config.data.progressive_size = 96
  stages = inputs.image_sizes(config, model, 8)
  assert stages == ((0, 96), (2, 128), (4, 160), (6, 192))
  inputs.train_batches(config, None, model, 1, stages)
  assert reading[0]['image_size'] == stages
  config.data.image_size = 128
  assert inputs.image_sizes(config, model, 8)[-1].size == 128
  config.data.image_size = 96
  with pytest.raises(errors.UserError) as caught:
    inputs.image_sizes(config, model, 8)
  assert str(caught.value) == (
    'config.data.progressive_size is 96: it must be below the size of the'
    ' training images, which is 96 (config.data.image_size=96), or 0'
  )


def test_batches_may_have_the_size_of_those_of_another_split(
  config, reading, caplog
):
  model = build.make_model(config, 10)
  config.data.image_size = 32
  inputs.eval_batches(config, range(5000), model, like=range(12))
  inputs.eval_batches(config, range(12), model)
  assert reading[0]['batch_size'] == reading[1]['batch_size']
  assert len(caplog.messages) == 1  # of the preset, for one of them


@pytest.mark.parametrize(
  'image_size, eval_size, expected',
  [(0, 0, 256), (64, 0, 64), (64, 80, 80), (0, 80, 80)],
)
def test_evaluation_images_follow_the_training_images(
  config, image_size, eval_size, expected
):
  config.data.image_size, config.data.eval_size = image_size, eval_size
  assert inputs.eval_size(config, build.make_model(config, 10)) == expected


def test_batch_sizes(config, reading):
  """Mixing needs two images per example; four devices divide 1001 + 3."""
  model = build.make_model(config, 10)
  config.eval.batch_size = 1001
  inputs.train_batches(config, None, model, 2)
  inputs.eval_batches(config, range(5000), model)
  assert [call['batch_size'] for call in reading] == [16, 1004]


@pytest.mark.parametrize(
  'explicit, accumulation, examples, devices, expected',
  [
    # As in training: 256 on 4 devices; 1000 images are 4 equal batches.
    (0, 1, 1000, 4, 252),
    (0, 1, 1024, 4, 256),
    # A device holds one micro-batch.
    (0, 8, 1024, 4, 32),
    # Never more than the split, rounded up to a multiple of the devices.
    (0, 1, 20, 1, 20),
    (0, 1, 21, 4, 24),
    (0, 1, 1, 8, 8),
    (1000, 1, 20, 1, 20),
    # A size that the user chose stays.
    (1000, 1, 50_000, 1, 1000),
    (100, 1, 250, 1, 100),
    # More devices than images per batch, and an empty split.
    (0, 256, 1000, 2, 2),
    (0, 1, 0, 2, 2),
  ],
)
def test_evaluation_batches(
  config, explicit, accumulation, examples, devices, expected
):
  config.train.batch_size = 256
  config.train.accumulation = accumulation
  config.eval.batch_size = explicit
  assert inputs.eval_batch_size(config, examples, devices) == expected


def test_reading_settings_reach_the_pipeline(config, reading):
  config.data.num_workers = 3
  config.data.strict = True
  config.data.max_unreadable_share = 0.25
  config.data.max_pixels = 1000
  inputs.train_batches(config, None, build.make_model(config, 10), 1)
  assert reading[0]['reading'] == pipeline.Reading(
    num_threads=None,
    num_workers=3,
    strict=True,
    max_unreadable_share=0.25,
    max_pixels=1000,
  )


def test_splits_come_from_the_settings(config):
  assert len(inputs.load_source(config, 'train')) == 1437
  assert len(inputs.load_source(config, 'eval')) == 360


@pytest.mark.parametrize(
  'alphas, images_per_example', [((0, 0), 1), ((0.2, 0), 2), ((0, 1.0), 2)]
)
def test_zero_disables_an_augmentation(config, alphas, images_per_example):
  config.augment.mixup_alpha, config.augment.cutmix_alpha = alphas
  config.augment.flip = False
  model = build.make_model(config, 10)
  preprocess = inputs.make_preprocess(config, model)
  assert preprocess.images_per_example == images_per_example
  if images_per_example == 1:
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    labels = np.array([3, 7], np.int32)
    out, soft = preprocess.apply(
      jax.random.key(0), images, labels, np.arange(2, dtype=np.int32)
    )
    expected = (images / 255 - model.config.mean) / model.config.std
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    assert np.argmax(soft, -1).tolist() == [3, 7]


def small_data(size):
  config, _ = command_line.parse_config(
    [
      '--config=experiments/small_data.py:gpu',
      '--config.dataset=digits',
      f'--config.data.image_size={size}',
    ]
  )
  return config


def largest_flat_part(config, size, count=500):
  """Returns the largest part of an augmented image that has one color.

  The images are noise, so that is the part that RandAugment fills. A later
  operation may change the color, but does so everywhere.
  """
  model = build.make_model(config, 10)
  preprocess = inputs.make_preprocess(config, model)
  raw = count * preprocess.images_per_example
  images = np.random.default_rng(0).integers(0, 256, (raw, size, size, 3))
  augmented, _ = jax.jit(preprocess.apply)(
    jax.random.key(0),
    images.astype(np.uint8),
    np.zeros(raw, np.int32),
    np.arange(count, dtype=np.int32),
  )
  levels = np.asarray(augmented) * model.config.std + model.config.mean
  colors = np.rint(255 * levels).astype(int) @ (1 << 16, 1 << 8, 1)
  parts = [np.unique(c, return_counts=True)[1].max() / size**2 for c in colors]
  return max(parts)


@pytest.mark.parametrize('size', [64, pytest.param(32, marks=pytest.mark.slow)])
def test_no_small_image_is_mostly_gray(size, request, monkeypatch):
  """Two translations in one direction are 45% of an image at magnitude 5."""
  monkeypatch.chdir(request.config.rootpath)
  assert largest_flat_part(small_data(size), size) < 0.46


@pytest.mark.slow
@pytest.mark.parametrize('size', [32, 64])
def test_published_distances_turn_small_images_gray(size, request, monkeypatch):
  monkeypatch.chdir(request.config.rootpath)
  config = small_data(size)
  config.augment.randaugment_relative = False
  assert largest_flat_part(config, size) > 0.95


@pytest.mark.parametrize(
  'size, magnitude, relative, remedy',
  [
    # A translation by half of the image is the limit: 10 pixels per unit, or
    # 1 / 22.4 of the image.
    (100, 5, False, None),
    (99, 5, False, '--config.augment.randaugment_relative=true'),
    (64, 11, True, None),
    (64, 12, True, 'reduce it'),
  ],
)
def test_warning_of_gray_images(
  size, magnitude, relative, remedy, config, caplog
):
  model = build.make_model(config, 10)
  config.data.image_size = size
  config.augment.randaugment_magnitude = magnitude
  config.augment.randaugment_relative = relative
  inputs.make_preprocess(config, model)
  assert not caplog.messages
  config.augment.randaugment_layers = 1
  # The smallest images are the ones to warn of.
  config.data.image_size, config.data.progressive_size = 200, size
  inputs.make_preprocess(config, model)
  assert len(caplog.messages) == (remedy is not None)
  assert all(
    f'images of {size} pixels' in message and remedy in message
    for message in caplog.messages
  )


def test_published_recipes_do_not_warn(reading, caplog):
  for number in range(8):
    config = recipes.imagenet_nfnet(f'nfnet_f{number}')
    model = build.make_model(config, 1000)
    inputs.make_preprocess(config, model)
    inputs.eval_batches(config, range(5000), model)
  assert not caplog.messages


@pytest.mark.parametrize(
  'size, preset, warns',
  [
    (96, 'deepmind', False),
    (95, 'deepmind', True),
    (32, 'deepmind_crop', True),
    (32, 'timm', False),
  ],
)
def test_warning_of_cropped_images(
  size, preset, warns, config, reading, caplog
):
  config.data.eval_size = size
  config.data.eval_preset = preset
  inputs.eval_batches(config, range(10), build.make_model(config, 10))
  assert len(caplog.messages) == warns
  assert all(f'eval_preset={preset} shows' in m for m in caplog.messages)
