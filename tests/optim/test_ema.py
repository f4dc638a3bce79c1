import jax.numpy as jnp
import numpy as np

from nfnets.optim import ema
from tests import helpers


def test_warmup_then_decay():
  for step, decay in ((0, 0.1), (1, 2 / 11), (90, 0.91), (10**6, 0.99)):
    average = ema.ema_update(
      {'w': jnp.ones(3)}, {'w': jnp.zeros(3)}, step, 0.99
    )
    np.testing.assert_allclose(
      average['w'], decay, rtol=helpers.RTOL_ELEMENTWISE
    )


def test_a_sequence_equals_the_recurrence_in_float64():
  rng = np.random.default_rng(0)
  values = rng.standard_normal((200, 5)).astype(np.float32)
  average, expected = jnp.zeros(5), np.zeros(5)
  for step, value in enumerate(values):
    average = ema.ema_update(average, jnp.asarray(value), step, 0.9)
    decay = min(0.9, (1 + step) / (10 + step))
    expected = decay * expected + (1 - decay) * value
  np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-6)


def test_the_published_decay_is_not_rounded():
  """1 - 0.99999 in float32 would be off by 0.1%."""
  change = ema.ema_update(jnp.zeros(()), jnp.ones(()), 10**8, 0.99999)
  np.testing.assert_allclose(change, 1e-5, rtol=helpers.RTOL_ELEMENTWISE)


def test_a_constant_is_unchanged_exactly():
  value = {'w': jnp.array([0.1, 1e-20, -3e20])}
  average = ema.ema_update(value, value, 12345, 0.99999)
  assert jnp.array_equal(average['w'], value['w'])


def test_counters_are_copied_and_dtypes_kept():
  old = {'counter': jnp.int32(3), 'w': jnp.zeros((), jnp.float32)}
  new = {'counter': jnp.int32(4), 'w': jnp.ones((), jnp.bfloat16)}
  average = ema.ema_update(old, new, 0, 0.9)
  assert average['counter'] == 4 and average['counter'].dtype == jnp.int32
  assert average['w'].dtype == jnp.float32
