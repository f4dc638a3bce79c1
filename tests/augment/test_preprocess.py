"""Preprocessing: order, labels, and independence from how a batch is split."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets

from nfnets.augment import preprocess, randaugment
from tests import helpers

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Normalization with these leaves the levels unchanged.
LEVELS = {'mean': (0.0, 0.0, 0.0), 'std': (1 / 255, 1 / 255, 1 / 255)}
COUNT = 12
MIXES = {'mixup_alpha': 0.2, 'cutmix_alpha': 1.0}
ALL = {
  **MIXES,
  'flip': True,
  'randaugment': (2, 10),
  'mean': MEAN,
  'std': STD,
}
KEY = jax.random.key(7)


@pytest.fixture(scope='module')
def images():
  flower = datasets.load_sample_images().images[1]
  starts = np.random.default_rng(0).integers(0, 380, (2 * COUNT, 2))
  return np.stack([flower[y : y + 32, x : x + 32] for y, x in starts])


@functools.cache  # compiles each only once
def make(**options):
  options = {'num_classes': 2 * COUNT, 'flip': False, **LEVELS, **options}
  made = preprocess.make_preprocess(**options)
  return preprocess.Preprocess(jax.jit(made.apply), made.images_per_example)


def run(made, images, first=0, end=COUNT, key=KEY):
  """Returns outputs `first` to `end`; image i of the batch has label i."""
  each = made.images_per_example
  rows = np.arange(first * each, end * each, dtype=np.int32)
  index = np.arange(first, end, dtype=np.int32)
  return jax.tree.map(np.asarray, made.apply(key, images[rows], rows, index))


@pytest.mark.parametrize(
  'options, size',
  [({}, 4), ({'augment_before_mix': True}, 1)],
  ids=['mix first', 'augment first'],
)
def test_slices_of_a_batch_equal_the_whole(images, options, size):
  made = make(**ALL, **options)
  whole = run(made, images)
  parts = [
    run(made, images, first, first + size) for first in range(0, COUNT, size)
  ]
  for expected, *pieces in zip(whole, *parts, strict=True):
    np.testing.assert_array_equal(np.concatenate(pieces), expected)


def test_devices_do_not_change_an_example(images):
  made = make(**ALL)
  sharded = [
    x.reshape((4, -1) + x.shape[1:])
    for x in (
      images,
      np.arange(2 * COUNT, dtype=np.int32),
      np.arange(COUNT, dtype=np.int32),
    )
  ]
  parts = jax.pmap(made.apply, in_axes=(None, 0, 0, 0))(KEY, *sharded)
  for expected, part in zip(run(made, images), parts, strict=True):
    np.testing.assert_array_equal(np.reshape(part, expected.shape), expected)


@pytest.mark.slow
@pytest.mark.parametrize('options', [{}, {'augment_before_mix': True}])
def test_examples_for_tpus_equal_those_of_other_platforms(
  images, options, monkeypatch
):
  made = make(**ALL, **options)
  expected = run(made, images)
  monkeypatch.setattr(preprocess, '_choose', lambda *, tpu, default: tpu)
  for_tpu = make.__wrapped__(**ALL, **options)
  parts = [run(for_tpu, images, first, first + 4) for first in (0, 4, 8)]
  for whole, *pieces in zip(expected, *parts, strict=True):
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_another_step_draws_other_random_numbers(images):
  made = make(**ALL)
  first, _ = run(made, images)
  second, _ = run(made, images, key=jax.random.key(8))
  assert (first != second).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(
  'options, mixups',
  [
    (MIXES, range(0, COUNT, 2)),
    ({'mixup_alpha': 0.2}, range(COUNT)),
    ({'cutmix_alpha': 1.0}, ()),
  ],
)
def test_even_indices_get_mixup_and_odd_ones_cutmix(options, mixups):
  level = np.arange(2 * COUNT, dtype=np.uint8)
  images = np.broadcast_to(level[:, None, None, None], (2 * COUNT, 16, 16, 3))
  made = make(**options)
  assert made.images_per_example == 2
  mixed, labels = run(made, images)
  assert mixed.dtype == labels.dtype == np.float32
  for index in range(COUNT):
    pair = [2 * index, 2 * index + 1]
    weights = labels[index, pair]
    np.testing.assert_allclose(labels[index].sum(), 1, atol=1e-6)
    np.testing.assert_allclose(weights.sum(), 1, atol=1e-6)
    if index in mixups:
      np.testing.assert_allclose(mixed[index], weights @ pair, atol=1e-5)
      assert len(np.unique(mixed[index])) == 1
    else:
      for number, part in zip(pair, weights, strict=True):
        np.testing.assert_allclose(
          (mixed[index] == number).mean(), part, atol=1e-6
        )


def test_without_mixing_labels_are_hard(images):
  made = make(num_classes=30)
  assert made.images_per_example == 1
  result, labels = run(made, images)
  np.testing.assert_array_equal(result, images[:COUNT].astype(np.float32))
  np.testing.assert_array_equal(labels, np.eye(30)[:COUNT])


def test_flip_mirrors_about_half_of_the_images(images):
  count = 400
  many = np.resize(images, (count, *images.shape[1:]))
  made = make(flip=True, num_classes=count)
  result, _ = run(made, many, end=count)
  unchanged = (result == many).all(axis=(1, 2, 3))
  mirrored = (result == many[:, :, ::-1]).all(axis=(1, 2, 3))
  assert (unchanged ^ mirrored).all()
  # 200 are expected; 5 standard deviations are 50.
  assert 150 < mirrored.sum() < 250


def test_the_two_images_of_a_pair_flip_independently():
  ramp = np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None], (8, 8, 3))
  flat = np.zeros_like(ramp)
  pairs = np.stack([ramp, flat, flat, ramp] * 50).reshape(200, 8, 8, 3)
  made = make(flip=True, mixup_alpha=1.0, num_classes=200)
  result, _ = run(made, pairs, end=100)
  mirrored = result[:, 0, 0, 0] > result[:, 0, -1, 0]
  assert 10 < mirrored[::2].sum() < 40
  assert 10 < mirrored[1::2].sum() < 40


def test_randaugment_comes_after_mixing_and_before_normalization(images):
  result, _ = run(make(**ALL), images)
  mixed, _ = run(make(**MIXES, flip=True), images)
  keys = jax.vmap(
    lambda index: jax.random.split(
      jax.random.split(jax.random.fold_in(KEY, index), 3)[2], 1
    )[0]
  )(np.arange(COUNT))
  fn = functools.partial(randaugment.randaugment, layers=2, magnitude=10)
  levels = jax.jit(jax.vmap(fn))(keys, mixed.astype(np.uint8))
  expected = (np.asarray(levels) / 255 - MEAN) / STD
  np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_randaugment_can_come_before_mixing(images):
  def fractions(made):
    levels = 255 * (run(made, images)[0] * np.float64(STD) + MEAN)
    return np.abs(levels - np.rint(levels)).max(axis=(1, 2, 3))

  # RandAugment returns integer levels; only MixUp after it makes fractions.
  assert fractions(make(**ALL)).max() < 1e-3
  before = fractions(make(**ALL, augment_before_mix=True))
  assert before[1::2].max() < 1e-3
  assert np.median(before[::2]) > 1e-2


def test_normalize_equals_the_formula():
  images = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
  result = preprocess.normalize(images, MEAN, STD)
  expected = (images / 255 - MEAN) / STD
  np.testing.assert_allclose(
    result, expected, rtol=helpers.RTOL_REDUCTION, atol=1e-6
  )
  assert result.dtype == jnp.float32


def test_wrong_number_of_images_raises(images):
  made = make(**ALL)
  with pytest.raises(ValueError, match='12 examples of 2 images each'):
    made.apply(KEY, images[:12], np.arange(12), np.arange(12))


@pytest.mark.parametrize('name', ['mixup_alpha', 'cutmix_alpha'])
def test_alpha_out_of_range_raises(name):
  with pytest.raises(ValueError, match='-0.5'):
    make(**{name: -0.5})
