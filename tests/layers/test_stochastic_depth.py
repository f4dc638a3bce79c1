import jax
import numpy as np
from jax import numpy as jnp

from nfnets.layers import stochastic_depth


def draw(keys, rates):
  """Returns float32[blocks, images]."""
  kept = stochastic_depth.draw_kept(keys, rates, jnp.float32)
  assert [x.shape for x in kept] == [(len(keys), 1, 1, 1)] * len(rates)
  return np.asarray(kept).reshape(len(rates), len(keys))


def test_fraction_kept_by_each_block_without_rescaling():
  kept = draw(jax.random.split(jax.random.key(0), 1000), (0.3, 0.0, 0.6))
  assert set(kept.ravel()) == {0.0, 1.0}
  # The last two: blocks are independent, and so are neighboring images.
  fractions = np.array(
    [
      *kept.mean(1),
      (kept[0] * kept[2]).mean(),
      (kept[0] * np.roll(kept[0], 1)).mean(),
    ]
  )
  expected = np.array((0.7, 1.0, 0.4, 0.7 * 0.4, 0.7 * 0.7))
  deviation = np.sqrt(expected * (1 - expected) / 1000)
  np.testing.assert_array_less(
    np.abs(fractions - expected), 5 * deviation + 1e-9
  )


def test_an_image_draws_from_its_key_alone():
  keys, rates = jax.random.split(jax.random.key(0), 20), (0.5,) * 20
  kept = draw(keys, rates)
  np.testing.assert_array_equal(draw(keys[7:12], rates), kept[:, 7:12])
  assert len({tuple(image) for image in kept.T}) == 20


def test_masks_of_a_seed_do_not_change_between_versions():
  # A run resumed with another version draws the same masks.
  kept = draw(jax.random.split(jax.random.key(0), 6), (0.25, 0.5, 0.75))
  expected = [[0, 1, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 1, 0]]
  np.testing.assert_array_equal(kept, expected)


def test_rate_zero_keeps_all_images_in_the_requested_dtype():
  (kept,) = stochastic_depth.draw_kept(
    jax.random.split(jax.random.key(0), 4), (0.0,), jnp.bfloat16
  )
  np.testing.assert_array_equal(kept, jnp.ones((4, 1, 1, 1)))
  assert kept.dtype == jnp.bfloat16
