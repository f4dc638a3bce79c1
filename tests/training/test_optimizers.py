"""Runs with every optimizer, stopped and resumed."""

import jax
import numpy as np
import pytest

from nfnets.optim import masks
from nfnets.training import checkpoint, devices
from tests.training import tiny


@pytest.mark.parametrize(
  'optimizer, options',
  [
    ({'name': 'lamb', 'weight_decay': 0.1}, {}),
    pytest.param(
      {'name': 'adamw', 'weight_decay': 0.1},
      {'sam_rho': 0.05, 'accumulation': 2},
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {'name': 'adamw', 'trainable': masks.head_mask},
      {'ema_decay': None},
      marks=pytest.mark.slow,
    ),
  ],
)
def test_every_optimizer_resumes_bit_for_bit(tmp_path, optimizer, options):
  state, step = tiny.setup(optimizer=optimizer, **options)
  start = jax.device_get(state)
  shapes = jax.eval_shape(lambda: start)

  def run(state, numbers):
    for number in numbers:
      batch = devices.shard_batch(tiny.make_batch(40, number))
      state, scalars = step(state, batch)
    return state, jax.device_get(scalars)

  state, _ = run(state, range(3))
  saver = checkpoint.Checkpointer(tmp_path)
  saver.save(3, state)
  saver.close()
  whole, scalars = run(state, range(3, 6))
  reader = checkpoint.Checkpointer(tmp_path)
  restored = reader.restore_latest(shapes).state
  reader.close()
  again, scalars_again = run(devices.replicate(restored), range(3, 6))
  tiny.assert_trees_equal(again, whole)
  tiny.assert_trees_equal(scalars_again, scalars)
  assert 0 < scalars['agc_clipped'] <= 1
  moved = jax.tree.map(
    lambda a, b: bool(np.any(a != np.asarray(b))), start.params, whole.params
  )
  trainable = optimizer.get('trainable')
  expected = jax.tree.map(lambda _: True, moved)
  assert moved == (trainable(moved) if trainable else expected)
