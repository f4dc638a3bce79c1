import jax
import numpy as np
from jax import numpy as jnp

from nfnets.layers import stochastic_depth


def test_fraction_kept_by_each_block_without_rescaling():
  rates = (0.3, 0.0, 0.6)
  kept = stochastic_depth.draw_kept(jax.random.key(0), rates, 1000, jnp.float32)
  assert [x.shape for x in kept] == [(1000, 1, 1, 1)] * 3
  kept = np.asarray(kept).reshape(3, 1000)
  assert set(kept.ravel()) == {0.0, 1.0}
  # The last is the fraction kept by two blocks, which are independent.
  fractions = np.array([*kept.mean(1), (kept[0] * kept[2]).mean()])
  expected = np.array((0.7, 1.0, 0.4, 0.7 * 0.4))
  deviation = np.sqrt(expected * (1 - expected) / 1000)
  np.testing.assert_array_less(
    np.abs(fractions - expected), 5 * deviation + 1e-9
  )


def test_rate_zero_keeps_all_images_in_the_requested_dtype():
  (kept,) = stochastic_depth.draw_kept(
    jax.random.key(0), (0.0,), 4, jnp.bfloat16
  )
  np.testing.assert_array_equal(kept, jnp.ones((4, 1, 1, 1)))
  assert kept.dtype == jnp.bfloat16
