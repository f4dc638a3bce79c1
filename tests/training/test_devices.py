import jax
import numpy as np
import pytest

from nfnets import errors
from nfnets.training import devices
from tests.training import tiny


def test_one_process_decides_for_itself():
  assert devices.of_primary(True) is True
  assert devices.of_primary(False) is False


def test_rows_are_split_in_order_and_numbered():
  batch = tiny.make_batch(12)
  rows = devices.shard_batch(batch)
  assert rows['image'].shape == (4, 3, 8, 8, 3)
  assert rows['image'].dtype == np.uint8
  np.testing.assert_array_equal(
    np.asarray(rows['label']).reshape(-1), batch['label']
  )
  np.testing.assert_array_equal(
    np.asarray(rows['index']).reshape(-1), np.arange(12)
  )
  for device, shard in zip(
    jax.local_devices(), rows['image'].addressable_shards, strict=True
  ):
    assert shard.device == device and shard.data.shape[0] == 1


def test_rows_of_a_later_process_are_numbered_after_the_first(monkeypatch):
  monkeypatch.setattr(devices.jax, 'process_index', lambda: 2)
  rows = devices.shard_batch(tiny.make_batch(8))
  np.testing.assert_array_equal(
    np.asarray(rows['index']).reshape(-1), np.arange(16, 24)
  )


def test_rows_that_the_devices_do_not_divide_are_refused():
  with pytest.raises(ValueError, match='4 local devices do not divide 6 rows'):
    devices.shard_batch(tiny.make_batch(6))


def test_padding_is_masked():
  batch = tiny.make_batch(6)
  padded = devices.pad_batch(batch)
  assert padded['image'].shape == (8, 8, 8, 3)
  assert padded['mask'].tolist() == [True] * 6 + [False] * 2
  np.testing.assert_array_equal(padded['image'][:6], batch['image'])
  assert devices.pad_batch(tiny.make_batch(8))['label'].shape == (8,)


def test_replicate_copies_each_array_to_every_device():
  tree = devices.replicate({'a': np.arange(3.0), 'b': np.int32(1)})
  assert tree['a'].shape == (3,)
  assert len(tree['a'].addressable_shards) == 4
  for shard in tree['a'].addressable_shards:
    np.testing.assert_array_equal(shard.data, np.arange(3.0))


def test_the_next_batch_is_sent_while_one_is_used():
  made = []

  def source():
    for number in range(3):
      made.append(number)
      yield tiny.make_batch(4, number)

  used = []
  for batch in devices.ahead(source()):
    used.append(np.asarray(batch['label']).reshape(-1))
    assert len(made) == min(len(used) + 1, 3)
  for number, label in enumerate(used):
    np.testing.assert_array_equal(label, tiny.make_batch(4, number)['label'])
  assert len(used) == 3


def test_processes_with_another_config_are_reported(monkeypatch):
  devices.check_same('a', 'the config')  # nothing to compare with
  monkeypatch.setattr(devices.jax, 'process_count', lambda: 3)

  def gather(digest):
    return np.stack([digest, digest, digest ^ 1])

  monkeypatch.setattr(devices.multihost_utils, 'process_allgather', gather)
  with pytest.raises(errors.UserError, match=r'the config of process \[2\]'):
    devices.check_same('a', 'the config')
