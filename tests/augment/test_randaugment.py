"""RandAugment on a batch equals the drawn operations applied one by one."""

import functools

import jax
import numpy as np
import pytest
from sklearn import datasets

from nfnets.augment import ops, randaugment
from tests.augment import operation

COUNT = 64
NAMES = list(ops.operations(reference_quirks=False))


@pytest.fixture(scope='module')
def images():
  flower = datasets.load_sample_images().images[1]
  starts = np.random.default_rng(0).integers(0, 380, (COUNT, 2))
  return np.stack([flower[y : y + 40, x : x + 48] for y, x in starts])


def apply(images, **options):
  keys = jax.random.split(jax.random.key(0), COUNT)
  fn = functools.partial(randaugment.randaugment, **options)
  return np.asarray(jax.jit(jax.vmap(fn))(keys, images))


def drawn(key):
  """Returns the operation that a layer draws, and its key."""
  choice_key, op_key = jax.random.split(key)
  choice = jax.random.randint(choice_key, (), 0, 16)
  return NAMES[choice], op_key


def test_layers_apply_the_drawn_operations_in_order(images):
  result = apply(images, layers=2, magnitude=12)
  seen = set()
  keys = jax.random.split(jax.random.key(0), COUNT)
  for key, image, augmented in zip(keys, images, result, strict=True):
    for layer in range(2):
      name, op_key = drawn(jax.random.fold_in(key, layer))
      image = operation.jitted(name)(op_key, image, 12)
      seen.add(name)
    np.testing.assert_array_equal(augmented, image, err_msg=name)
  assert seen == set(NAMES)


def test_quirks_and_relative_distances_reach_their_operations(images):
  options = {'relative': True, 'reference_quirks': True}
  result = apply(images, layers=1, magnitude=12, **options)
  seen = set()
  keys = jax.random.split(jax.random.key(0), COUNT)
  for key, image, augmented in zip(keys, images, result, strict=True):
    name, op_key = drawn(jax.random.fold_in(key, 0))
    if name in ('solarize', 'contrast', 'translate_x', 'translate_y', 'cutout'):
      seen.add(name)
      expected = operation.jitted(name, **options)(op_key, image, 12)
      np.testing.assert_array_equal(augmented, expected, err_msg=name)
  assert len(seen) == 5


@pytest.mark.parametrize(
  'options, message',
  [
    ({'layers': 0, 'magnitude': 5}, 'layers is 0'),
    ({'layers': 2, 'magnitude': -1}, 'magnitude is -1'),
  ],
)
def test_settings_out_of_range_raise(options, message):
  image = np.zeros((4, 4, 3), np.uint8)
  with pytest.raises(ValueError, match=message):
    randaugment.randaugment(jax.random.key(0), image, **options)
