import jax
import numpy as np
from jax import numpy as jnp

from nfnets.layers import stochastic_depth


def test_whole_images_are_dropped_and_the_rest_is_not_rescaled():
  branch = jnp.full((1000, 3, 3, 2), 5.0)
  dropped = stochastic_depth.drop_branch(jax.random.key(0), branch, 0.3)
  per_image = np.asarray(dropped).reshape(1000, -1)
  kept = per_image[:, 0] == 5.0
  np.testing.assert_array_equal(per_image[kept], 5.0)
  np.testing.assert_array_equal(per_image[~kept], 0.0)
  # Five standard deviations of a binomial share.
  np.testing.assert_allclose(kept.mean(), 0.7, atol=0.075)


def test_rate_zero_keeps_everything_and_the_dtype():
  branch = jnp.ones((4, 2, 2, 1), jnp.bfloat16)
  kept = stochastic_depth.drop_branch(jax.random.key(0), branch, 0.0)
  np.testing.assert_array_equal(kept, branch)
  assert kept.dtype == jnp.bfloat16
