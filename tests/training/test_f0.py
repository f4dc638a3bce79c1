"""The train step on F0; it compiles for minutes, so it is marked slow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import models
from nfnets.augment import preprocess as preprocess_lib
from nfnets.optim import optimizer as optimizer_lib
from nfnets.optim import schedules
from nfnets.training import devices, gradient
from nfnets.training import state as state_lib
from nfnets.training import step as step_lib
from tests import filled, helpers
from tests.golden import fill

pytestmark = pytest.mark.slow

SIZE = 64
CLASSES = 10


def make_batch(number, size=8):
  """Ten coarse images with noise, learnable in a few steps."""
  rng = np.random.default_rng([1, number])
  label = rng.integers(0, CLASSES, size).astype(np.int32)
  pictures = np.random.default_rng(5).integers(0, 256, (CLASSES, 8, 8, 3))
  image = np.kron(pictures[label], np.ones((1, 8, 8, 1)))
  image = np.clip(image + rng.normal(0, 20, image.shape), 0, 255)
  return {'image': image.astype(np.uint8), 'label': label}


def setup(model, **options):
  preprocess = preprocess_lib.make_preprocess(
    num_classes=CLASSES,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    flip=True,
  )
  schedule = schedules.warmup_cosine(0.1, 5, 20)
  optimizer = optimizer_lib.make_optimizer(schedule)
  train_step = step_lib.make_train_step(
    gradient.make_gradient(model, preprocess, label_smoothing=0.1, **options),
    optimizer,
    schedule=schedule,
  )
  state = state_lib.create_train_state(
    model, optimizer, jax.random.key(0), SIZE, ema=False
  )
  return devices.replicate(state), train_step


def run(model, steps, **options):
  """Returns the losses and the change of the parameters."""
  state, train_step = setup(model, **options)
  before = jax.tree.map(np.array, jax.device_get(state.params))
  losses = []
  for number in range(steps):
    batch = devices.shard_batch(make_batch(number))
    state, scalars = train_step(state, batch)
    losses.append(float(scalars['loss']))
  after = jax.device_get(state.params)
  moved = jax.tree.map(lambda new, old: (new - old).ravel(), after, before)
  return np.array(losses), np.concatenate(jax.tree.leaves(moved))


def make_model(**overrides):
  return models.create_model(
    'nfnet_f0', CLASSES, drop_rate=0.0, stochdepth_rate=0.0, **overrides
  )


def test_bfloat16_tracks_float32_for_20_steps():
  # Each loss within 5%, the whole change within 10%.
  losses, moved = run(make_model(), 20)
  half_losses, half_moved = run(make_model(), 20, dtype='bfloat16')
  assert losses[-1] < 0.5 * losses[0]
  np.testing.assert_allclose(half_losses, losses, rtol=0.05)
  difference = np.linalg.norm(half_moved - moved)
  assert 0 < difference < 0.1 * np.linalg.norm(moved)


def test_three_steps_give_the_published_losses():
  golden = helpers.golden()['three_steps']
  (case,) = golden
  images = jnp.asarray(fill.image(4, golden[case]['size']))
  labels = jax.nn.one_hot(np.array([1, 2, 3, 999]), 1000)
  preprocess = preprocess_lib.Preprocess(
    lambda key, image, label, index: (images[index], labels[index]), 1
  )
  model = models.create_model('nfnet_f0', drop_rate=0.0, stochdepth_rate=0.0)
  params = filled.params(model)
  schedule = schedules.warmup_constant(0.1)
  clipping = float(case.partition('clip=')[2])
  optimizer = optimizer_lib.make_optimizer(schedule, clipping=clipping)
  train_step = step_lib.make_train_step(
    gradient.make_gradient(model, preprocess, label_smoothing=0.1),
    optimizer,
    schedule=schedule,
  )
  state = devices.replicate(
    state_lib.from_params(params, {}, optimizer, ema=False)
  )
  losses = []
  for _ in range(4):
    batch = {
      'image': np.zeros((4, 1, 1, 3), np.uint8),
      'label': np.zeros(4, np.int32),
    }
    state, scalars = train_step(state, devices.shard_batch(batch))
    losses.append(float(scalars['loss']))
  np.testing.assert_allclose(losses, golden[case]['losses'], rtol=1e-3)


def test_remat_changes_no_numbers_and_saves_memory():
  # Most activations are in one stage, since the stem's are kept either way.
  small = {'width': 0.25, 'group_size': 32, 'depth': (1, 8, 1, 1)}
  results, memory = [], []
  for remat in (False, True):
    model = make_model(**small, remat=remat)
    results.append(run(model, 2))
    state, train_step = setup(model)
    batch = devices.shard_batch(make_batch(0, size=64))
    # XLA for CPU drops the barriers that keep recomputed values from being
    # merged with the originals; accelerators keep them.
    compiled = train_step.lower(state, batch).compile(
      compiler_options={'xla_disable_hlo_passes': 'cse_barrier_expander'}
    )
    memory.append(compiled.memory_analysis().temp_size_in_bytes)
  for plain, again in zip(*results, strict=True):
    scale = np.abs(plain).max()
    np.testing.assert_allclose(again, plain, rtol=0, atol=1e-6 * scale)
  assert memory[1] < 0.7 * memory[0], memory
