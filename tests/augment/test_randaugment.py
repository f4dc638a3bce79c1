"""RandAugment: a batch of different operations equals each one alone."""

import functools

import jax
import numpy as np
import pytest
from sklearn import datasets

from nfnets.augment import ops, randaugment

COUNT = 64


@pytest.fixture(scope='module')
def images():
  flower = datasets.load_sample_images().images[1]
  starts = np.random.default_rng(0).integers(0, 380, (COUNT, 2))
  return np.stack([flower[y : y + 40, x : x + 48] for y, x in starts])


def apply(images, **options):
  keys = jax.random.split(jax.random.key(0), COUNT)
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


def test_layers_are_the_drawn_operations_in_turn(images):
  result = apply(images, layers=2, magnitude=12)
  seen = set()
  keys = jax.random.split(jax.random.key(0), COUNT)
  for key, image, augmented in zip(keys, images, result, strict=True):
    for layer in range(2):
      name, key_of_op = drawn(jax.random.fold_in(key, layer))
      image = jitted(name, False)(key_of_op, image, 12)
      seen.add(name)
    np.testing.assert_array_equal(augmented, image, err_msg=name)
  assert seen == set(ops.OPERATIONS)


def test_reference_quirks_reach_their_operations(images):
  result = apply(images, layers=1, magnitude=12, reference_quirks=True)
  seen = set()
  keys = jax.random.split(jax.random.key(0), COUNT)
  for key, image, augmented in zip(keys, images, result, strict=True):
    name, key_of_op = drawn(jax.random.fold_in(key, 0))
    if name in ('solarize', 'contrast'):
      seen.add(name)
      expected = jitted(name, True)(key_of_op, image, 12)
      np.testing.assert_array_equal(augmented, expected, err_msg=name)
  assert len(seen) == 2


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
