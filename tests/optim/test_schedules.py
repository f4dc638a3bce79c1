import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.optim import schedules
from tests import helpers


def test_published_nfnet_schedule():
  """Batch 4096, 360 epochs, 5 of them warm-up, peak 0.1 * 4096 / 256."""
  total, warmup = 112_602, 1_564
  rate = schedules.warmup_cosine(1.6, warmup, total)
  assert rate(0) == 0
  np.testing.assert_allclose(
    [rate(warmup // 2), rate(warmup), rate((warmup + total) // 2)],
    [0.8, 1.6, 0.8],
    rtol=helpers.RTOL_REDUCTION,
  )
  quarter = warmup + (total - warmup) / 4
  np.testing.assert_allclose(
    rate(quarter), 0.8 * (1 + math.sqrt(0.5)), rtol=helpers.RTOL_REDUCTION
  )
  np.testing.assert_allclose([rate(total), rate(total + 9)], 0, atol=1e-7)


def test_published_regnet_schedule_ends_above_zero():
  rate = schedules.warmup_cosine(0.4, 6_256, 450_410, end=0.001)
  np.testing.assert_allclose(rate(6_256), 0.4, rtol=helpers.RTOL_ELEMENTWISE)
  np.testing.assert_allclose(
    [rate(450_410), rate(10**6)], 0.001, rtol=helpers.RTOL_REDUCTION
  )
  halfway = (6_256 + 450_410) // 2
  np.testing.assert_allclose(
    rate(halfway), (0.4 + 0.001) / 2, rtol=helpers.RTOL_REDUCTION
  )


def test_published_fine_tuning_schedule():
  rate = schedules.warmup_cosine(0.1, 5_000, 15_000)
  np.testing.assert_allclose(
    [rate(1_000), rate(5_000), rate(10_000)],
    [0.02, 0.1, 0.05],
    rtol=helpers.RTOL_REDUCTION,
  )


def test_without_a_warmup_it_starts_at_the_peak():
  np.testing.assert_allclose(schedules.warmup_cosine(0.3, 0, 10)(0), 0.3)
  np.testing.assert_allclose(schedules.warmup_constant(0.3)(0), 0.3)


def test_constant_after_the_warmup():
  rate = schedules.warmup_constant(2.0, 4)
  rates = [float(rate(step)) for step in (0, 1, 3, 4, 5, 10**6)]
  assert rates == [0.0, 0.5, 1.5, 2.0, 2.0, 2.0]


def test_traced_steps_give_the_same_float32():
  rate = schedules.warmup_cosine(1.6, 10, 100)
  for step in (3, 10, 57):
    traced = jax.jit(rate)(jnp.int32(step))
    assert traced.dtype == jnp.float32 and traced.shape == ()
    np.testing.assert_allclose(
      traced, rate(step), rtol=helpers.RTOL_ELEMENTWISE
    )


@pytest.mark.parametrize('warmup', [-1, 10, 11])
def test_a_warmup_that_does_not_fit_is_refused(warmup):
  with pytest.raises(ValueError, match=f'{warmup} steps.*10 steps'):
    schedules.warmup_cosine(1.0, warmup, 10)


def test_a_negative_warmup_is_refused():
  with pytest.raises(ValueError, match='-2'):
    schedules.warmup_constant(1.0, -2)
