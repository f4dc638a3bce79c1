"""Loss and gradient of networks with standardized convolutions."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nfnets import losses, models
from nfnets.augment import preprocess as preprocess_lib
from nfnets.layers import convolution
from nfnets.training import checkpoint, devices, gradient
from tests import filled, helpers
from tests.training import tiny

SMALL = {
  'widths': (256, 512),
  'width': 0.125,
  'depth': (1, 1),
  'group_size': 16,
}
ROWS = 8
# Folding changes the logits by 1e-5 of their standard deviation (see `fold`).
TOLERANCE = 1e-4
# The draws of 'rbg' would depend on the number of devices.
ENVIRONMENT = {'JAX_PLATFORMS': 'cpu', 'JAX_DEFAULT_PRNG_IMPL': 'rbg'}


def _gradient(accumulation, sam_rho=None):
  model = models.create_model(
    'nfnet_f0', 7, **SMALL, drop_rate=0.0, stochdepth_rate=0.0
  )
  plain = preprocess_lib.make_preprocess(
    num_classes=7, mean=(0.5,) * 3, std=(0.25,) * 3, flip=False
  )
  options = {'label_smoothing': 0.1, 'dtype': 'float32', 'sam_share': 1.0}
  gradient_fn = gradient.make_gradient(
    model, plain, accumulation=accumulation, sam_rho=sam_rho, seed=1, **options
  )
  rng = np.random.default_rng(0)
  batch = {
    'image': rng.integers(0, 256, (ROWS, 32, 32, 3), np.uint8),
    'label': rng.integers(0, 7, ROWS, np.int32),
    'mask': np.ones(ROWS, bool),
    'index': np.arange(ROWS, dtype=np.int32),
  }
  return jax.jit(gradient_fn), (filled.params(model), {}, jnp.int32(3), batch)


def test_filters_folded_once_per_step_give_the_same_gradient():
  runs = [_gradient(count) for count in (1, 4)]
  # XLA's own grouped convolutions compile fastest.
  with convolution.lowering('plain'):
    expected, actual = (run(*arguments) for run, arguments in runs)
  np.testing.assert_allclose(
    actual.metrics['loss'], expected.metrics['loss'], rtol=TOLERANCE
  )
  scale = max(jnp.abs(x).max() for x in jax.tree.leaves(expected.grads))
  assert scale > 0.01
  for a, b in zip(
    jax.tree.leaves(actual.grads),
    jax.tree.leaves(expected.grads),
    strict=True,
  ):
    own = jnp.maximum(jnp.abs(b).max(), 1e-3 * scale)
    np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * own)


@pytest.mark.parametrize(('sam_rho', 'inside'), [(None, False), (0.05, True)])
def test_where_filters_are_standardized(sam_rho, inside):
  run, arguments = _gradient(4, sam_rho)
  jaxpr = run.trace(*arguments).jaxpr
  (loop,) = [e for e in jaxpr.eqns if e.primitive.name == 'scan']
  assert 'rsqrt' in str(jaxpr)
  assert ('rsqrt' in str(loop.params['jaxpr'])) == inside


OPTIONS = dict(
  label_smoothing=0.1,
  dtype='float32',
  accumulation=1,
  sam_rho=None,
  sam_share=0.2,
  seed=3,
)


def sharded_gradient(count, drop_rate=0.0, **options):
  """Returns (params, step, batch) -> gradient averaged over `count` devices."""
  model = tiny.make_model(drop_rate)
  gradient_fn = gradient.make_gradient(
    model, tiny.make_preprocess(), **{**OPTIONS, **options}
  )
  _, state = model.init(None, None)
  mapped = jax.pmap(
    lambda p, step, x: jax.lax.pmean(gradient_fn(p, state, step, x), 'd'),
    'd',
    in_axes=(None, None, 0),
    out_axes=None,
    devices=jax.devices()[:count],
  )

  def run(params, step, batch):
    size = len(batch['label'])
    rows = {**batch, 'index': np.arange(size, dtype=np.int32)}
    rows = jax.tree.map(lambda x: x.reshape((count, -1) + x.shape[1:]), rows)
    return mapped(params, jnp.int32(step), rows)

  return run


def averaged_gradient(count, batch, **options):
  """Computes the gradient of `batch`, averaged over `count` devices."""
  params, _ = tiny.make_model().init(None, None)
  return sharded_gradient(count, **options)(params, 5, batch)


def test_four_devices_give_the_gradient_of_one():
  batch = tiny.make_batch(32)
  one = averaged_gradient(1, batch)
  tiny.assert_trees_close(
    averaged_gradient(4, batch), one, helpers.RTOL_REDUCTION
  )


def test_accumulation_equals_one_large_batch():
  # With AGC on the accumulated gradient, mixing and dropout by global index.
  mix = tiny.make_preprocess(mixup_alpha=0.2, cutmix_alpha=1.0)
  states = []
  for accumulation in (1, 4):
    state, train_step = tiny.setup(
      model=tiny.make_model(drop_rate=0.25),
      preprocess=mix,
      accumulation=accumulation,
    )
    for number in range(3):
      batch = devices.shard_batch(tiny.make_batch(64, number))
      state, scalars = train_step(state, batch)
    states.append((state.params, state.ema_params, scalars))
  assert 0 < states[0][2]['agc_clipped'] < 1
  tiny.assert_trees_close(*states, helpers.RTOL_REDUCTION)


def test_twenty_steps_train_the_same_network_on_any_number_of_devices():
  def train(count, accumulation):
    run = sharded_gradient(count, drop_rate=0.25, accumulation=accumulation)
    params = jax.device_get(tiny.make_model().init(None, None)[0])
    losses = []
    for step in range(20):
      result = jax.device_get(run(params, step, tiny.make_batch(16, step)))
      params = jax.tree.map(lambda p, g: p - 0.1 * g, params, result.grads)
      losses.append(result.metrics['loss'])
    return params, np.array(losses)

  expected = train(1, 1)
  # Devices and micro-batches per device.
  for split in ((4, 1), (2, 2)):
    tiny.assert_trees_close(train(*split), expected, helpers.RTOL_REDUCTION)


@pytest.mark.slow
def test_the_program_trains_the_same_network_on_any_number_of_devices(tmp_path):
  settings = {
    'model.name': 'nf_resnet50',
    # Smooth: where a ReLU's input is near 0, the last bit of a sum decides
    # whether there is a gradient.
    'model.activation': 'silu',
    'model.width': 0.25,
    'model.group_size': 0,
    'model.depth': '1,2,1,1',
    'model.drop_rate': 0.25,
    'model.stochdepth_rate': 0.25,
    'optimizer.warmup_epochs': 0,
    'train.steps': 20,
    'train.batch_size': 32,
  }

  def train(count, accumulation):
    workdir = tmp_path / str(count)
    run = subprocess.run(
      [
        *(sys.executable, '-m', 'nfnets.experiment', f'--workdir={workdir}'),
        '--config=experiments/digits.py',
        f'--config.train.accumulation={accumulation}',
        *(f'--config.{name}={value}' for name, value in settings.items()),
      ],
      cwd=pathlib.Path(__file__).parent.parent.parent,
      env=os.environ | ENVIRONMENT | {'JAX_NUM_CPU_DEVICES': str(count)},
      capture_output=True,
      text=True,
    )
    assert run.returncode == 0, run.stderr
    folder = workdir / 'checkpoints'
    return checkpoint.read_weights(folder, 20, ema=False).params

  tiny.assert_trees_close(train(4, 2), train(1, 1), helpers.RTOL_REDUCTION)


def network_keys(seed, step, index):
  """Computes the network's key of each example by hand."""
  key = jax.random.fold_in(jax.random.key(seed), np.uint32(2**32 - 1))
  key = jax.random.fold_in(key, step)
  return jnp.stack([jax.random.fold_in(key, i) for i in index])


def test_the_network_has_a_key_per_seed_step_and_index():
  seen = []
  model = tiny.make_model()

  def apply(params, state, keys, images, is_training):
    seen.append(keys)
    return model.apply(params, state, keys, images, is_training)

  params, state = model.init(None, None)
  cases = [(3, 0, 0), (3, 0, 4), (3, 1, 0), (4, 0, 0)]
  for seed, step, first in cases:
    gradient_fn = gradient.make_gradient(
      model._replace(apply=apply),
      tiny.make_preprocess(),
      **{**OPTIONS, 'seed': seed},
    )
    index = np.arange(first, first + 4, dtype=np.int32)
    batch = {**tiny.make_batch(4), 'index': index}
    with jax.default_prng_impl('rbg'):  # ignored
      gradient_fn(params, state, jnp.int32(step), batch)
    assert (seen[-1] == network_keys(seed, step, index)).all()
    # The augmentation of the same examples.
    key = jax.random.fold_in(jax.random.key(seed), step)
    seen.append(jnp.stack([jax.random.fold_in(key, i) for i in index]))
  keys = jax.random.key_data(jnp.concatenate(seen))
  assert len(np.unique(keys, axis=0)) == 2 * 4 * len(cases)


def test_top1_of_mixed_examples_uses_the_larger_label():
  # The published code uses the first of the two labels.
  labels = jnp.array([[0.3, 0.7, 0, 0, 0], [0.9, 0, 0.1, 0, 0]])
  preprocess = tiny.make_preprocess()._replace(
    apply=lambda key, images, _, index: (images.astype(jnp.float32), labels)
  )
  model = tiny.make_model()
  logits = jnp.array([[0.0, 9, 0, 0, 0], [0.0, 0, 9, 0, 0]])
  model = model._replace(
    apply=lambda p, s, *_: ((logits + 0 * p['Tiny/~/linear']['b'][0], {}), s)
  )
  gradient_fn = gradient.make_gradient(model, preprocess, **OPTIONS)
  batch = {**tiny.make_batch(2), 'index': np.arange(2, dtype=np.int32)}
  params, state = tiny.make_model().init(None, None)
  result = gradient_fn(params, state, jnp.int32(0), batch)
  assert result.metrics['top1'] == 0.5


def test_sam_equals_two_gradients_by_hand():
  model, preprocess = tiny.make_model(drop_rate=0.5), tiny.make_preprocess()
  batch = {**tiny.make_batch(20), 'index': np.arange(20, dtype=np.int32)}
  params, state = model.init(None, None)
  images, labels = preprocess.apply(
    jax.random.fold_in(jax.random.key(3), 7),
    batch['image'],
    batch['label'],
    batch['index'],
  )

  # An example has the same masks in both gradients.
  keys = network_keys(3, 7, batch['index'])

  def loss_fn(params, count):
    (logits, _), _ = model.apply(
      params, state, keys[:count], images[:count], True
    )
    smooth = losses.smooth_labels(labels[:count], 0.1)
    return jnp.mean(losses.softmax_cross_entropy(logits, smooth))

  ascent = jax.grad(loss_fn)(params, 4)  # 20% of 20
  norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(ascent)))
  moved = jax.tree.map(lambda p, g: p + 0.05 * g / norm, params, ascent)
  loss, expected = jax.value_and_grad(loss_fn)(moved, 20)
  gradient_fn = gradient.make_gradient(
    model, preprocess, **{**OPTIONS, 'sam_rho': 0.05}
  )
  result = gradient_fn(params, state, jnp.int32(7), batch)
  tiny.assert_trees_close(result.grads, expected, helpers.RTOL_REDUCTION)
  np.testing.assert_allclose(result.metrics['loss'], loss, rtol=1e-5)


def test_sam_ascends_per_device():
  # Each device has its own worst point, so four devices differ from one.
  batch = tiny.make_batch(32)
  one = averaged_gradient(1, batch, sam_rho=1.0)
  four = averaged_gradient(4, batch, sam_rho=1.0)
  # On one device, micro-batches ascend as devices do.
  turns = averaged_gradient(1, batch, sam_rho=1.0, accumulation=4)
  tiny.assert_trees_close(turns, four, helpers.RTOL_REDUCTION)
  difference = optax.tree.norm(
    jax.tree.map(
      jnp.subtract, jax.device_get(one.grads), jax.device_get(four.grads)
    )
  )
  assert difference > 1e-3 * optax.tree.norm(four.grads)
