"""RandAugment: a batch of different operations equals each one alone."""

import functools

import jax
import numpy as np
import pytest
from sklearn import datasets

from nfnets.augment import ops, randaugment

COUNT = 96


@pytest.fixture(scope='module')
def images():
  flower = datasets.load_sample_images().images[1]
  starts = np.random.default_rng(0).integers(0, 380, (COUNT, 2))
  return np.stack([flower[y : y + 40, x : x + 48] for y, x in starts])


def apply(images, *, seed=0, **options):
  keys = jax.random.split(jax.random.key(seed), len(images))
  fn = functools.partial(randaugment.randaugment, **options)
  return np.asarray(jax.jit(jax.vmap(fn))(keys, images))


@functools.cache
def jitted(name, reference_quirks):
  op = functools.partial(
    ops.OPERATIONS[name], reference_quirks=reference_quirks
  )
  return jax.jit(op)


def drawn(key):
  """The operation of a layer and its key, as the layer draws them."""
  choice_key, key_of_op = jax.random.split(key)
  choice = jax.random.randint(choice_key, (), 0, 16)
  return list(ops.OPERATIONS)[choice], key_of_op


@pytest.mark.parametrize(
  'reference_quirks, names',
  [(False, set(ops.OPERATIONS)), (True, {'solarize', 'contrast'})],
)
def test_one_layer_equals_the_drawn_operation(images, reference_quirks, names):
  options = {'magnitude': 12, 'reference_quirks': reference_quirks}
  result = apply(images, layers=1, **options)
  seen = set()
  keys = jax.random.split(jax.random.key(0), COUNT)
  for key, image, augmented in zip(keys, images, result, strict=True):
    name, key_of_op = drawn(jax.random.fold_in(key, 0))
    if name not in names:
      continue
    seen.add(name)
    expected = jitted(name, reference_quirks)(key_of_op, image, 12)
    np.testing.assert_array_equal(augmented, expected, err_msg=name)
  assert seen == names


def test_layers_follow_one_another(images):
  result = apply(images[:4], layers=3, magnitude=12)
  keys = jax.random.split(jax.random.key(0), 4)
  for key, image, augmented in zip(keys, images[:4], result, strict=True):
    for layer in range(3):
      name, key_of_op = drawn(jax.random.fold_in(key, layer))
      image = jitted(name, False)(key_of_op, image, 12)
    np.testing.assert_array_equal(augmented, image)


def test_operations_are_drawn_uniformly():
  black = np.zeros((3200, 4, 4, 3), np.uint8)
  result = apply(black, layers=1, magnitude=10)
  # Of a black image the inversion alone is white, SolarizeAdd alone is 110,
  # and translation by 100 pixels in either direction and most cutouts leave
  # nothing but the fill.
  for level, expected in ((255, 200), (110, 200)):
    count = (result == level).all(axis=(1, 2, 3)).sum()
    # 200 are expected; 5 standard deviations are 68.
    assert abs(count - expected) < 68
  filled = (result == 128).all(axis=(1, 2, 3)).sum()
  assert abs(filled - 600) < 110


@pytest.mark.parametrize(
  'options, message',
  [
    ({'layers': 0, 'magnitude': 5}, 'layers is 0'),
    ({'layers': 2, 'magnitude': -1}, 'magnitude is -1'),
  ],
)
def test_impossible_strength_is_refused(options, message):
  image = np.zeros((4, 4, 3), np.uint8)
  with pytest.raises(ValueError, match=message):
    randaugment.randaugment(jax.random.key(0), image, **options)
