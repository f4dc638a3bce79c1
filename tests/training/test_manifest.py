import json

import jax.numpy as jnp
import numpy as np
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


def test_names_of_a_train_state():
  params = {'NFNet/~/conv': {'w': np.ones(2), 'bias': np.zeros(1)}}
  state = state_lib.TrainState(
    params, {}, ({'x': np.ones(1)}, np.zeros(2)), params, {}, np.int32(1)
  )
  flat = manifest_lib.flatten(state)
  assert list(flat) == [
    'params/NFNet/~/conv/bias',
    'params/NFNet/~/conv/w',
    'opt_state/0/x',
    'opt_state/1',
    'ema_params/NFNet/~/conv/bias',
    'ema_params/NFNet/~/conv/w',
    'step',
  ]
  again = manifest_lib.unflatten(flat, state)
  assert isinstance(again, state_lib.TrainState)
  assert again.opt_state[1] is state.opt_state[1]


def test_what_was_made_is_parsed_and_verified(arrays):
  manifest = manifest_lib.make(arrays, step=3)
  parsed = manifest_lib.parse(json.dumps(manifest))
  assert parsed['step'] == 3
  assert parsed['leaves']['half']['dtype'] == 'bfloat16'
  manifest_lib.verify(arrays, parsed['leaves'])


def test_one_flipped_bit_is_named(arrays):
  leaves = manifest_lib.make(arrays)['leaves']
  arrays['params/a/~/b/w'].view(np.uint32)[1, 2] ^= 1
  with pytest.raises(
    manifest_lib.DamagedError, match='params/a/~/b/w does not'
  ):
    manifest_lib.verify(arrays, leaves)


def test_another_shape_or_dtype_is_named(arrays):
  leaves = manifest_lib.make(arrays)['leaves']
  with pytest.raises(manifest_lib.DamagedError, match=r'float32\[3, 2\]'):
    manifest_lib.verify(
      {**arrays, 'params/a/~/b/w': arrays['params/a/~/b/w'].reshape(3, 2)},
      leaves,
    )
  with pytest.raises(manifest_lib.DamagedError, match=r'step is uint32\[\]'):
    manifest_lib.verify({**arrays, 'step': np.asarray(3, np.uint32)}, leaves)


@pytest.mark.parametrize('text', ['', '{"a": 1', '[]', '{}', '3', b'\xff\xfe'])
def test_garbage_is_no_manifest(text):
  with pytest.raises(manifest_lib.DamagedError):
    manifest_lib.parse(text)


def test_a_changed_manifest_is_noticed(arrays):
  text = json.dumps(manifest_lib.make(arrays, step=3))
  with pytest.raises(manifest_lib.DamagedError, match='its own SHA-256'):
    manifest_lib.parse(text.replace('"step": 3', '"step": 4'))


def test_mismatches_in_words(arrays):
  leaves = manifest_lib.make(arrays)['leaves']
  assert manifest_lib.mismatches(arrays, leaves) == []
  target = {'half': np.zeros(3), 'step': np.int32(0), 'new': np.zeros(1)}
  assert manifest_lib.mismatches(target, leaves) == [
    'half is bfloat16[3] there and float64[3] here',
    'new is missing there and float64[1] here',
    'params/a/~/b/w is float32[2, 3] there and missing here',
  ]
