"""Settings to sources, batches and preprocessing."""

import jax
import numpy as np
import pytest

from nfnets.data import pipeline
from nfnets.experiment import build, inputs
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
