import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nfnets.training import manifest as manifest_lib
from nfnets.training import state as state_lib


@pytest.fixture
def arrays():
  return {
    'params/a/~/b/w': np.arange(6, dtype=np.float32).reshape(2, 3),
    'half': np.asarray(jnp.ones(3, jnp.bfloat16)),
    'step': np.asarray(3, np.int32),
  }


@pytest.fixture
def leaves(arrays):
  return make(arrays)['leaves']


def make(arrays):
  return manifest_lib.make(
    arrays, step=3, metrics={}, config=None, dataset=None
  )


def test_names_of_a_train_state():
  params = {'NFNet/~/conv': {'w': np.ones(2), 'bias': np.zeros(1)}}
  opt_state = (optax.EmptyState(), optax.TraceState({'w': np.zeros(2)}))
  state = state_lib.TrainState(params, {}, opt_state, params, {}, np.int32(1))
  flat = manifest_lib.flatten(state)
  assert list(flat) == [
    'params/NFNet/~/conv/bias',
    'params/NFNet/~/conv/w',
    'opt_state/trace/w',
    'ema_params/NFNet/~/conv/bias',
    'ema_params/NFNet/~/conv/w',
    'step',
  ]
  again = manifest_lib.unflatten(flat, state)
  assert isinstance(again, state_lib.TrainState)
  assert again.opt_state[1].trace['w'] is opt_state[1].trace['w']


def test_names_do_not_depend_on_transformations_without_state():
  params = {'NFNet/~/conv': {'w': np.ones(2), 'bias': np.zeros(1)}}
  trace = optax.trace(0.9)
  names = [
    list(manifest_lib.flatten(optax.chain(*steps).init(params)))
    for steps in ([trace], [optax.identity(), trace], [trace, optax.scale(2)])
  ]
  assert names[0] == names[1] == names[2]
  assert names[0] == ['trace/NFNet/~/conv/bias', 'trace/NFNet/~/conv/w']


def test_positions_in_names_of_earlier_versions_are_dropped():
  inner = 'opt_state/inner_states/train/inner_state'
  assert manifest_lib.stable_name(f'{inner}/2/trace/w') == f'{inner}/trace/w'
  assert manifest_lib.stable_name('opt_state/0/1') == 'opt_state'
  for name in ('params/NFNet/~/conv_1/w', 'params/NFNet/~/2d/w'):
    assert manifest_lib.stable_name(name) == name


def test_names_must_be_unique():
  state = optax.chain(optax.trace(0.9), optax.trace(0.5)).init(np.ones(2))
  with pytest.raises(ValueError, match="two arrays have the name 'trace'"):
    manifest_lib.flatten(state)


def test_a_manifest_is_parsed_and_its_arrays_are_verified(arrays):
  manifest = make(arrays)
  parsed = manifest_lib.parse(json.dumps(manifest))
  assert parsed['step'] == 3
  assert parsed['leaves']['half']['dtype'] == 'bfloat16'
  manifest_lib.verify(arrays, parsed['leaves'])


def test_a_flipped_bit_is_reported(arrays, leaves):
  arrays['params/a/~/b/w'].view(np.uint32)[1, 2] ^= 1
  with pytest.raises(
    manifest_lib.DamagedError, match='params/a/~/b/w does not'
  ):
    manifest_lib.verify(arrays, leaves)


def test_another_shape_or_dtype_is_reported(arrays, leaves):
  with pytest.raises(manifest_lib.DamagedError, match=r'float32\[3, 2\]'):
    manifest_lib.verify(
      {**arrays, 'params/a/~/b/w': arrays['params/a/~/b/w'].reshape(3, 2)},
      leaves,
    )
  with pytest.raises(manifest_lib.DamagedError, match=r'step is uint32\[\]'):
    manifest_lib.verify({**arrays, 'step': np.asarray(3, np.uint32)}, leaves)


@pytest.mark.parametrize(
  'text', ['', '{"a": 1', '[]', '{}', '3', b'\xff\xfe', '[' * 10**5]
)
def test_garbage_is_refused(text):
  with pytest.raises(manifest_lib.DamagedError):
    manifest_lib.parse(text)


def test_a_changed_manifest_is_noticed(arrays):
  text = json.dumps(make(arrays))
  with pytest.raises(manifest_lib.DamagedError, match='its own SHA-256'):
    manifest_lib.parse(text.replace('"step": 3', '"step": 4'))


@pytest.mark.parametrize(
  'changes',
  [
    {'step': '3'},
    {'step': -1},
    {'step': True},
    {'metrics': []},
    {'metrics': {'eval/top1': None}},
    {'config': 'x'},
    {'leaves': [1]},
    {'leaves': {'a': 1}},
    {'leaves': {'a': {'shape': [1.5], 'dtype': 'float32', 'sha256': ''}}},
    {'leaves': {'a': {'shape': [1], 'dtype': None, 'sha256': ''}}},
    {'leaves': {'a': {'shape': [1], 'dtype': 'float32'}}},
  ],
)
def test_values_of_other_types_are_refused(arrays, changes):
  body = {**make(arrays), **changes}
  del body['sha256']
  body['sha256'] = manifest_lib._json_sha256(body)
  with pytest.raises(manifest_lib.DamagedError, match='does not describe a'):
    manifest_lib.parse(json.dumps(body))


def test_mismatches_in_words(arrays, leaves):
  assert manifest_lib.mismatches(arrays, leaves) == []
  target = {'half': np.zeros(3), 'step': np.int32(0), 'new': np.zeros(1)}
  assert manifest_lib.mismatches(target, leaves) == [
    'half is bfloat16[3] there and float64[3] here',
    'new is missing there and float64[1] here',
    'params/a/~/b/w is float32[2, 3] there and missing here',
  ]
