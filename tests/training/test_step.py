import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nfnets import losses
from nfnets.optim import agc
from nfnets.training import devices
from nfnets.training import step as step_lib
from tests import helpers
from tests.training import tiny


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


def test_nothing_is_reported_as_clipped_without_clipping():
  state, train_step = tiny.setup(clipping=None)
  _, scalars = train_step(state, devices.shard_batch(tiny.make_batch(8)))
  assert set(scalars) == {
    'loss', 'top1', 'grad_norm', 'learning_rate', 'finite'
  }  # fmt: skip


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
  model = tiny.poisoned_by_white(tiny.make_model())
  state, train_step = tiny.setup(model=model)
  batch = tiny.make_batch(8)
  batch['image'][6] = 255
  before = jax.device_get(jax.tree.map(jnp.copy, state))
  state, scalars = train_step(state, devices.shard_batch(batch))
  assert scalars['finite'] == 0
  tiny.assert_trees_equal(state, before)


# The white image is in the second micro-batch of the third device; SAM's ascent
# does not see it.
@pytest.mark.parametrize(
  'options', [{}, {'sam_rho': 0.05, 'accumulation': 2}], ids=['plain', 'sam']
)
def test_skipped_steps_change_only_the_step_and_the_counts(options):
  model = tiny.poisoned_by_white(tiny.make_model(drop_rate=0.3, norm=True))
  state, train_step = tiny.setup(model=model, skips=True, **options)
  seen = []
  for number, bad in enumerate([False, True, True, False, True]):
    batch = tiny.make_batch(16, number)
    if bad:
      batch['image'][11] = 255
    before = jax.device_get(jax.tree.map(jnp.copy, state))
    state, scalars = train_step(state, devices.shard_batch(batch))
    assert scalars['finite'] == 1 - bad
    assert scalars['skipped'] == state.skips.total
    assert scalars['skipped_in_a_row'] == state.skips.in_a_row
    seen.append((int(state.step), *map(int, state.skips)))
    if bad:
      restored = state._replace(step=before.step, skips=before.skips)
      tiny.assert_trees_equal(restored, before)
  assert seen == [(1, 0, 0), (2, 1, 1), (3, 2, 2), (4, 2, 0), (5, 3, 1)]
  assert step_lib.make_replica_check()(state)


def test_rate_and_average_follow_the_number_of_updates():
  initial, train_step = tiny.setup(
    model=tiny.poisoned_by_white(tiny.make_model()),
    preprocess=tiny.make_preprocess(flip=False),
    warmup_steps=4,
    skips=True,
  )
  initial = jax.device_get(initial)
  batches = [tiny.make_batch(8, number) for number in range(3)]
  batches[1]['image'][0] = 255

  def run(batches):
    state, rates = devices.replicate(initial), []
    for batch in batches:
      state, scalars = train_step(state, devices.shard_batch(batch))
      rates.append(float(scalars['learning_rate']))
    return state, rates

  skipped, rates = run(batches)
  expected, _ = run(batches[::2])
  np.testing.assert_allclose(rates, [0, 0.025, 0.025])
  assert int(skipped.step) == 3 and int(expected.step) == 2
  tiny.assert_trees_equal(
    skipped._replace(step=0, skips=None), expected._replace(step=0, skips=None)
  )


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


def drifted(x, device, change):
  """Returns a replicated array with `change` applied to the bits of a copy."""
  copies = [np.array(x) for _ in jax.local_devices()]
  change(copies[device].view(np.uint32).reshape(-1))
  shards = [
    jax.device_put(copy, place)
    for copy, place in zip(copies, jax.local_devices(), strict=True)
  ]
  return jax.make_array_from_single_device_arrays(x.shape, x.sharding, shards)


def test_replica_check_detects_one_bit():
  def flip(bits):
    bits[5] ^= 1

  check = step_lib.make_replica_check()
  state, _ = tiny.setup()
  assert check(state.params)
  conv = state.params['Tiny/~/conv']
  bad = {**conv, 'bias': drifted(conv['bias'], 2, flip)}
  assert not check({**state.params, 'Tiny/~/conv': bad})


def up(bits):
  bits[0] += 1


def down(bits):
  bits[0] -= 1


def swap(bits):
  bits[:2] = bits[1], bits[0]


@pytest.mark.parametrize('changes', [(up, down), (down, up), (swap, swap)])
def test_replica_check_detects_errors_that_cancel_in_a_sum(changes):
  check = step_lib.make_replica_check()
  tree = devices.replicate([np.arange(1.0, 5.0, dtype=np.float32)] * 2)
  assert check(tree)
  assert not check(
    [drifted(x, 3, change) for x, change in zip(tree, changes, strict=True)]
  )


def test_the_mean_over_devices_keeps_the_type_of_counters():
  tree = {'mean': jnp.arange(4.0), 'counter': jnp.full(4, 7, jnp.int32)}
  mean = jax.pmap(
    step_lib._mean_over_devices, axis_name=devices.AXIS, out_axes=None
  )(tree)
  assert mean['mean'] == 1.5
  assert mean['counter'] == 7 and mean['counter'].dtype == jnp.int32
