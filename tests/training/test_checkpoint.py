import json
import logging
import os
import pathlib
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import errors
from nfnets.training import checkpoint, checkpoint_files, devices
from tests.training import damage, tiny


@pytest.fixture(scope='module')
def state():
  return tiny.setup(model=tiny.make_model(norm=True))[0]


def at(state, step):
  """The state as if after `step` steps."""
  params = jax.tree.map(lambda x: x + step, state.params)
  return state._replace(params=params, step=jnp.int32(step))


def save(directory, state, steps, **options):
  saver = checkpoint.Checkpointer(directory, **options)
  for step in steps:
    saver.save(step, at(state, step))
  saver.close()


def restore(directory, state):
  reader = checkpoint.Checkpointer(directory)
  restored = reader.restore_latest(jax.eval_shape(lambda: state))
  reader.close()
  return restored


def test_round_trip_is_exact(tmp_path, state):
  params = jax.tree.map(lambda x: x * -0.0, state.params)
  state = state._replace(params=params)
  saver = checkpoint.Checkpointer(tmp_path, config={'a': [1, None]})
  assert saver.restore_latest(state) is None
  saver.save(7, state, {'eval/top1': 0.5})
  saver.close()
  restored = restore(tmp_path, state)
  tiny.assert_trees_equal(restored.state, state)
  signs = jax.tree.map(np.signbit, restored.state.params)
  tiny.assert_trees_equal(
    signs, jax.tree.map(np.signbit, jax.device_get(params))
  )
  assert restored.step == 7
  assert restored.metrics == {'eval/top1': 0.5}
  assert checkpoint.read_weights(tmp_path).config == {'a': [1, None]}


def test_saving_is_not_affected_by_the_next_steps(tmp_path):
  state, train_step = tiny.setup()
  saver = checkpoint.Checkpointer(tmp_path)
  before = jax.device_get(jax.tree.map(jnp.copy, state))
  saver.save(1, state)
  for number in range(3):  # donates the state's buffers
    batch = devices.shard_batch(tiny.make_batch(8, number))
    state, _ = train_step(state, batch)
  saver.close()
  tiny.assert_trees_equal(restore(tmp_path, state).state, before)


def test_resumes_with_another_number_of_devices(tmp_path, state):
  one = jax.device_put(jax.device_get(state), jax.devices()[0])
  save(tmp_path, one, [3])
  placed = devices.replicate(restore(tmp_path, state).state)
  tiny.assert_trees_equal(placed, at(state, 3))
  assert len(placed.step.sharding.device_set) == 4


def test_keeps_the_newest_and_the_best(tmp_path, state):
  saver = checkpoint.Checkpointer(tmp_path, keep=2)
  scores = {1: 0.1, 2: 0.9, 3: 0.5, 4: float('nan'), 5: 0.2, 6: None}
  for step, score in scores.items():
    saver.save(step, state, {'eval/top1': score} if score else None)
  saver.close()
  left = sorted(p.name for p in tmp_path.iterdir())
  assert left == ['2', '5', '6']
  # The same after reopening, where the newest is restored.
  saver = checkpoint.Checkpointer(tmp_path, keep=2)
  assert saver.restore_latest(state).step == 6
  saver.save(7, state, {'eval/top1': 0.3})
  saver.close()
  assert sorted(p.name for p in tmp_path.iterdir()) == ['2', '6', '7']


@pytest.mark.parametrize('damage', damage.ALL)
def test_the_one_before_a_damaged_one_is_used(tmp_path, damage, caplog, state):
  save(tmp_path, state, [1, 2])
  damage(tmp_path)
  with caplog.at_level(logging.WARNING):
    restored = restore(tmp_path, state)
  assert restored.step == 1
  tiny.assert_trees_equal(restored.state, at(state, 1))
  assert str(tmp_path / '2') in caplog.text
  # Its number is free again and nothing was deleted.
  assert (tmp_path / '2.damaged').is_dir()
  saver = checkpoint.Checkpointer(tmp_path)
  saver.restore_latest(state)
  saver.save(2, at(state, 2))
  saver.close()
  assert restore(tmp_path, state).step == 2


def test_a_flipped_bit_never_gives_a_wrong_state(tmp_path, state):
  used = []
  for position in (0.1, 0.3, 0.5, 0.7, 0.9):
    directory = tmp_path / str(position)
    save(directory, state, [1, 2])
    path = max(damage.files_of(directory, 2), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 0x10
    path.write_bytes(data)
    restored = restore(directory, state)
    used.append(restored.step)
    # Some bytes of Orbax's files are never read.
    tiny.assert_trees_equal(restored.state, at(state, restored.step))
  assert 1 in used


def test_a_run_with_only_damaged_ones_stops(tmp_path, state):
  save(tmp_path, state, [2])
  damage.truncate(tmp_path)
  for _ in range(2):  # rerunning the command does not start over either
    with pytest.raises(errors.UserError, match='no checkpoint in .* is intact'):
      restore(tmp_path, state)
  assert (tmp_path / '2').is_dir()


def test_empty_directories_and_leftovers_are_ignored(tmp_path, state):
  (tmp_path / '9').mkdir()
  (tmp_path / '4.orbax-checkpoint-tmp' / 'state').mkdir(parents=True)
  (tmp_path / 'deleted' / '3').mkdir(parents=True)
  assert restore(tmp_path, state) is None
  save(tmp_path, state, [1])
  assert sorted(p.name for p in tmp_path.iterdir()) == ['1', '9.damaged']


def test_a_checkpoint_of_another_network_is_refused(tmp_path, state):
  save(tmp_path, state, [1])
  params = dict(state.params)
  params['Tiny/~/linear'] = {'w': jnp.zeros((16, 7)), 'c': jnp.zeros(7)}
  with pytest.raises(errors.UserError) as caught:
    restore(tmp_path, state._replace(params=params))
  text = str(caught.value)
  assert 'params/Tiny/~/linear/b is float32[5] there and missing here' in text
  assert 'and 2 more' in text
  # It is not damaged, so it stays.
  assert restore(tmp_path, state).step == 1


def test_saving_the_same_step_twice_does_nothing(tmp_path, state):
  saver = checkpoint.Checkpointer(tmp_path)
  saver.save(1, state)
  saver.save(1, at(state, 5))
  saver.close()
  tiny.assert_trees_equal(restore(tmp_path, state).state, state)


def test_an_older_step_is_refused(tmp_path, state):
  saver = checkpoint.Checkpointer(tmp_path)
  saver.save(2, state)
  with pytest.raises(errors.UserError, match='checkpoint 1 is not newer'):
    saver.save(1, state)
  saver.close()


def test_a_failed_save_raises_and_the_last_good_one_stays(tmp_path, state):
  saver = checkpoint.Checkpointer(tmp_path, keep=1)
  saver.save(1, at(state, 1))
  saver.wait()
  with pytest.MonkeyPatch.context() as patch:

    def full(*args, **kwargs):
      raise OSError(28, 'No space left on device')

    patch.setattr(pathlib.Path, 'rename', full)
    patch.setattr('os.rename', full)
    patch.setattr('os.replace', full)
    with pytest.raises(errors.UserError) as caught:
      saver.save(2, at(state, 2))
      saver.wait()
  text = str(caught.value)
  assert 'checkpoint 2 cannot be written' in text and 'No space left' in text
  assert str(tmp_path) in text and 'Last good checkpoint: step 1' in text
  assert '\n' not in text
  saver.save(3, at(state, 3))  # after space was freed
  saver.close()
  tiny.assert_trees_equal(restore(tmp_path, state).state, at(state, 3))


def test_read_weights(tmp_path, state):
  ema = jax.tree.map(lambda x: x - 1, state.params)
  state = state._replace(ema_params=ema)
  save(tmp_path, state, [1, 2], config={'name': 'tiny'})
  weights = checkpoint.read_weights(tmp_path)
  tiny.assert_trees_equal(weights.params, ema)
  tiny.assert_trees_equal(weights.state, state.ema_state)
  assert weights.step == 2 and weights.config == {'name': 'tiny'}
  plain = checkpoint.read_weights(tmp_path, 1, ema=False)
  tiny.assert_trees_equal(plain.params, at(state, 1).params)
  with pytest.raises(errors.UserError, match='no such directory'):
    checkpoint.read_weights(tmp_path, 5)
  with pytest.raises(errors.UserError, match='it has none'):
    checkpoint.read_weights(tmp_path / 'nowhere')


def test_read_weights_changes_nothing_and_falls_back(tmp_path, state):
  state = state._replace(ema_params={}, ema_state={})
  save(tmp_path, state, [1, 2])
  damage.truncate(tmp_path)
  before = sorted(tmp_path.rglob('*'))
  weights = checkpoint.read_weights(tmp_path)
  assert weights.step == 1
  tiny.assert_trees_equal(weights.params, at(state, 1).params)
  assert sorted(tmp_path.rglob('*')) == before


def test_manifest_lists_every_array(tmp_path, state):
  save(tmp_path, state, [1])
  manifest = json.loads((tmp_path / '1' / 'manifest' / 'metadata').read_text())
  count = len(jax.tree.leaves(state))
  assert len(manifest['leaves']) == count
  assert manifest['leaves']['params/Tiny/~/linear/w']['shape'] == [16, 5]


@pytest.mark.slow
def test_a_full_disk(tmp_path, state):
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=300k', 'tmpfs', str(tmp_path)]
  if subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('cannot mount a small disk')
  try:
    saver = checkpoint.Checkpointer(tmp_path / 'checkpoints')
    saver.save(1, at(state, 1))
    saver.wait()
    disk = os.statvfs(tmp_path)
    filler = tmp_path / 'filler'
    filler.write_bytes(b'x' * (disk.f_bavail * disk.f_bsize - 8192))
    with pytest.raises(errors.UserError, match='No space left on device'):
      saver.save(2, at(state, 2))
      saver.wait()
    filler.unlink()
    saver.save(3, at(state, 3))
    saver.close()
    assert checkpoint_files.steps(tmp_path / 'checkpoints') == [3, 1]
    restored = restore(tmp_path / 'checkpoints', state)
    tiny.assert_trees_equal(restored.state, at(state, 3))
  finally:
    subprocess.run(['umount', str(tmp_path)], check=True)
