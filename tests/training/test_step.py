import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nfnets import losses
from nfnets.optim import agc
from nfnets.training import devices, gradient
from nfnets.training import step as step_lib
from tests import helpers
from tests.training import tiny

OPTIONS = dict(
  label_smoothing=0.1,
  dtype='float32',
  accumulation=1,
  sam_rho=None,
  sam_share=0.2,
  seed=3,
)


def averaged_gradient(count, batch, **options):
  """Computes the gradient of `batch`, averaged over `count` devices."""
  gradient_fn = gradient.make_gradient(
    tiny.make_model(), tiny.make_preprocess(), **{**OPTIONS, **options}
  )
  params, state = tiny.make_model().init(None, None)
  size = len(batch['label'])
  rows = {**batch, 'index': np.arange(size, dtype=np.int32)}
  rows = jax.tree.map(lambda x: x.reshape((count, -1) + x.shape[1:]), rows)
  run = jax.pmap(
    lambda p, x: jax.lax.pmean(gradient_fn(p, state, jnp.int32(5), x), 'd'),
    'd',
    in_axes=(None, 0),
    out_axes=None,
    devices=jax.devices()[:count],
  )
  return run(params, rows)


def test_four_devices_give_the_gradient_of_one():
  batch = tiny.make_batch(32)
  one = averaged_gradient(1, batch)
  tiny.assert_trees_close(
    averaged_gradient(4, batch), one, helpers.RTOL_REDUCTION
  )


def test_step_equals_the_update_by_hand():
  model, batch = tiny.make_model(), tiny.make_batch(16)
  state, train_step = tiny.setup(
    model=model,
    label_smoothing=0.1,
    preprocess=tiny.make_preprocess(flip=False),
  )
  params = jax.device_get(state.params)
  images = (batch['image'] / 255 - 0.5) / 0.25
  labels = losses.smooth_labels(jax.nn.one_hot(batch['label'], 5), 0.1)

  def loss_fn(params):
    (logits, _), _ = model.apply(params, {}, None, images, True)
    return jnp.mean(losses.softmax_cross_entropy(logits, labels))

  loss, grads = jax.value_and_grad(loss_fn)(params)
  mask = {
    'Tiny/~/conv': {'w': True, 'bias': True},
    'Tiny/~/linear': {'w': False, 'b': True},
  }
  clip = agc.adaptive_grad_clip(0.01, mask=mask)
  clipped, clip_state = clip.update(grads, clip.init(params), params)
  # Momentum starts at 0: buffer = g, Nesterov's step = g + 0.9 * buffer.
  decay = {'w': 2e-5, 'b': 0.0, 'bias': 0.0}
  expected = {
    module: {
      name: w - 0.1 * 1.9 * (clipped[module][name] + decay[name] * w)
      for name, w in leaves.items()
    }
    for module, leaves in params.items()
  }
  new, scalars = train_step(state, devices.shard_batch(batch))
  tiny.assert_trees_close(new.params, expected, helpers.RTOL_REDUCTION)
  # EMA of step 0: decay (1 + 0) / (10 + 0).
  ema = jax.tree.map(lambda old, x: 0.1 * old + 0.9 * x, params, expected)
  tiny.assert_trees_close(new.ema_params, ema, helpers.RTOL_REDUCTION)
  assert int(new.step) == 1
  np.testing.assert_allclose(scalars['loss'], loss, rtol=1e-5)
  np.testing.assert_allclose(scalars['learning_rate'], 0.1, rtol=1e-6)
  np.testing.assert_allclose(
    scalars['grad_norm'], optax.tree.norm(grads), rtol=1e-5
  )
  np.testing.assert_allclose(scalars['agc_clipped'], clip_state.clipped)
  assert 0 < float(scalars['agc_clipped']) <= 1
  assert scalars['finite'] == 1


def test_compiles_once_and_donates():
  traces = []
  model = tiny.make_model()

  def apply(*args):
    traces.append(1)
    return model.apply(*args)

  state, train_step = tiny.setup(model=model._replace(apply=apply))
  for number in range(3):
    old = state
    state, _ = train_step(
      state, devices.shard_batch(tiny.make_batch(8, number))
    )
    assert all(x.is_deleted() for x in jax.tree.leaves(old.params))
  assert len(traces) == 1


def test_all_devices_hold_the_same_state_after_ten_steps():
  state, train_step = tiny.setup(
    model=tiny.make_model(drop_rate=0.3, norm=True),
    sam_rho=0.05,
    accumulation=2,
  )
  for number in range(10):
    batch = devices.shard_batch(tiny.make_batch(32, number))
    state, scalars = train_step(state, batch)
  for leaf in jax.tree.leaves((state, scalars)):
    shards = [np.asarray(s.data) for s in leaf.addressable_shards]
    assert len(shards) == 4
    for shard in shards[1:]:
      np.testing.assert_array_equal(shard, shards[0])


def test_the_loss_falls():
  state, train_step = tiny.setup(clipping=None)
  first = last = None
  for number in range(40):
    batch = devices.shard_batch(tiny.make_batch(32, number))
    state, scalars = train_step(state, batch)
    last = float(scalars['loss'])
    first = first or last
  assert last < 0.8 * first


def test_accumulation_equals_one_large_batch():
  # With AGC on the accumulated gradient and mixing by global index.
  mix = tiny.make_preprocess(mixup_alpha=0.2, cutmix_alpha=1.0)
  states = []
  for accumulation in (1, 4):
    state, train_step = tiny.setup(preprocess=mix, accumulation=accumulation)
    for number in range(3):
      batch = devices.shard_batch(tiny.make_batch(64, number))
      state, scalars = train_step(state, batch)
    states.append((state.params, state.ema_params, scalars))
  assert 0 < states[0][2]['agc_clipped'] < 1
  tiny.assert_trees_close(*states, helpers.RTOL_REDUCTION)


def test_masks_follow_the_micro_batch_not_the_device():
  # 4 devices with one micro-batch each equal 1 device with 4.
  batch = {**tiny.make_batch(32), 'index': np.arange(32, dtype=np.int32)}
  params, state = tiny.make_model().init(None, None)

  def mean_gradient(count, accumulation):
    gradient_fn = gradient.make_gradient(
      tiny.make_model(drop_rate=0.5),
      tiny.make_preprocess(),
      **{**OPTIONS, 'accumulation': accumulation},
    )
    rows = jax.tree.map(lambda x: x.reshape((count, -1) + x.shape[1:]), batch)
    parts = jax.jit(
      lambda rows: jax.lax.map(
        lambda x: gradient_fn(params, state, jnp.int32(1), x), rows
      )
    )(rows)
    return jax.tree.map(lambda x: jnp.mean(x, 0), parts)

  expected = mean_gradient(4, 1)
  for split in ((1, 4), (2, 2)):
    tiny.assert_trees_close(
      mean_gradient(*split), expected, helpers.RTOL_REDUCTION
    )


def test_masks_differ_between_steps_and_micro_batches():
  seen = []
  model = tiny.make_model()

  def apply(params, state, key, images, is_training):
    seen.append(jax.random.key_data(key))
    return model.apply(params, state, key, images, is_training)

  gradient_fn = gradient.make_gradient(
    model._replace(apply=apply), tiny.make_preprocess(), **OPTIONS
  )
  params, state = model.init(None, None)
  for step, first in ((0, 0), (1, 0), (0, 4)):
    index = np.arange(first, first + 4, dtype=np.int32)
    batch = {**tiny.make_batch(4), 'index': index}
    gradient_fn(params, state, jnp.int32(step), batch)
  keys = {tuple(np.asarray(key).tolist()) for key in seen}
  assert len(keys) == 3


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


@pytest.mark.parametrize('bad', ['loss', 'gradient'])
def test_a_step_that_is_not_finite_changes_nothing(bad):
  model = tiny.make_model(norm=True)

  def apply(params, state, key, images, is_training):
    (logits, endpoints), state = model.apply(
      params, state, key, images, is_training
    )
    poison = jnp.inf if bad == 'loss' else 0.0
    # sqrt at 0: its value is finite and its gradient is not.
    bias = params['Tiny/~/linear']['b'][0]
    return (logits + poison + jnp.sqrt(bias), endpoints), state

  state, train_step = tiny.setup(model=model._replace(apply=apply))
  before = jax.device_get(jax.tree.map(jnp.copy, state))
  state, scalars = train_step(state, devices.shard_batch(tiny.make_batch(8)))
  assert scalars['finite'] == 0
  tiny.assert_trees_equal(state, before)


def test_one_bad_device_is_enough():
  model = tiny.make_model()

  def apply(params, state, key, images, is_training):
    (logits, endpoints), state = model.apply(
      params, state, key, images, is_training
    )
    poison = jnp.where(jnp.max(images) > 1.9, jnp.nan, 0.0)
    return (logits + poison, endpoints), state

  state, train_step = tiny.setup(model=model._replace(apply=apply))
  batch = tiny.make_batch(8)
  batch['image'] = batch['image'] // 2
  batch['image'][6] = 255
  before = jax.device_get(jax.tree.map(jnp.copy, state))
  state, scalars = train_step(state, devices.shard_batch(batch))
  assert scalars['finite'] == 0
  tiny.assert_trees_equal(state, before)


def test_sam_equals_two_gradients_by_hand():
  model, preprocess = tiny.make_model(), tiny.make_preprocess()
  batch = {**tiny.make_batch(20), 'index': np.arange(20, dtype=np.int32)}
  params, state = model.init(None, None)
  images, labels = preprocess.apply(
    jax.random.fold_in(jax.random.key(3), 7),
    batch['image'],
    batch['label'],
    batch['index'],
  )

  def loss_fn(params, count):
    (logits, _), _ = model.apply(params, state, None, images[:count], True)
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


def test_bfloat16_keeps_states_and_gradients_in_float32():
  dtypes = {}
  model = tiny.make_model(norm=True)

  def apply(params, state, key, images, is_training):
    dtypes.update(
      params=params['Tiny/~/conv']['w'].dtype,
      state=state['Tiny/~/norm']['mean'].dtype,
      images=images.dtype,
    )
    return model.apply(params, state, key, images, is_training)

  state, train_step = tiny.setup(
    model=model._replace(apply=apply), dtype='bfloat16'
  )
  wide, wide_step = tiny.setup(model=model)
  batch = devices.shard_batch(tiny.make_batch(32))
  state, scalars = train_step(state, batch)
  wide, wide_scalars = wide_step(wide, batch)
  assert dtypes == {
    'params': jnp.bfloat16,
    'state': jnp.float32,
    'images': jnp.bfloat16,
  }
  for leaf in jax.tree.leaves((state._replace(step=0), scalars)):
    assert jnp.asarray(leaf).dtype in (jnp.float32, jnp.int32)
  # bfloat16 has 8 bits of mantissa.
  np.testing.assert_allclose(scalars['loss'], wide_scalars['loss'], rtol=2**-7)
  assert scalars['loss'] != wide_scalars['loss']


def test_no_average_is_kept_without_a_decay():
  state, train_step = tiny.setup(ema_decay=None)
  state, _ = train_step(state, devices.shard_batch(tiny.make_batch(8)))
  assert state.ema_params == {} and state.ema_state == {}


def test_replica_check_detects_one_bit():
  check = step_lib.make_replica_check()
  state, _ = tiny.setup()
  assert check(state.params)
  bad = jax.device_get(state.params)
  leaf = bad['Tiny/~/conv']['bias']
  copies = [np.array(leaf) for _ in range(4)]
  copies[2].view(np.uint32)[5] ^= 1
  sharding = state.params['Tiny/~/conv']['bias'].sharding
  shards = [
    jax.device_put(copy, device)
    for copy, device in zip(copies, jax.local_devices(), strict=True)
  ]
  drifted = jax.make_array_from_single_device_arrays(
    leaf.shape, sharding, shards
  )
  params = {
    **state.params,
    'Tiny/~/conv': {**state.params['Tiny/~/conv'], 'bias': drifted},
  }
  assert not check(params)
