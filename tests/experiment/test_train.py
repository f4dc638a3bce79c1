"""What a run checks before training and prints at its ends.

Whole runs are in test_main.py.
"""

import json
import types

import jax
import numpy as np
import pytest

from nfnets import errors
from nfnets.experiment import config as config_lib
from nfnets.experiment import inputs, steps, train
from nfnets.training import checkpoint, loop
from tests.experiment import tiny


@pytest.fixture
def config():
  return tiny.make_config(32)


def test_a_claimed_workdir_contains_the_settings(config, tmp_path):
  with train._claimed(config, tmp_path):
    settings = json.loads((tmp_path / 'config.json').read_text())
  assert settings == config_lib.flatten(config)


def test_processes_compare_their_code_and_settings(
  config, tmp_path, monkeypatch
):
  compared = {}
  monkeypatch.setattr(
    train.devices,
    'check_same',
    lambda text, what: compared.update({what: text}),
  )
  with train._claimed(config, tmp_path):
    pass
  assert compared == {
    'the code (nfnets/)': train._digest_code(),
    'the config': json.dumps(config_lib.flatten(config)),
  }


def test_the_digest_covers_every_source_file_and_nothing_else(tmp_path):
  (tmp_path / 'models').mkdir()
  for name in ('a.py', 'models/b.py'):
    (tmp_path / name).write_text('x = 1\n')
  before = train._digest_code(tmp_path)
  (tmp_path / 'models' / 'b.pyc').touch()
  assert train._digest_code(tmp_path) == before
  (tmp_path / 'models' / 'b.py').write_text('x = 2\n')
  changed = train._digest_code(tmp_path)
  (tmp_path / 'models' / 'b.py').rename(tmp_path / 'models' / 'c.py')
  renamed = train._digest_code(tmp_path)
  (tmp_path / 'models' / 'c.py').unlink()
  assert len({before, changed, renamed, train._digest_code(tmp_path)}) == 4
  assert train._digest_code() != train._digest_code(tmp_path)


def test_settings_may_change_only_until_there_are_results(config, tmp_path):
  with train._claimed(config, tmp_path):
    pass
  config.seed = 1
  with train._claimed(config, tmp_path):
    pass
  (tmp_path / 'metrics.jsonl').touch()
  config.seed = 2
  with pytest.raises(errors.UserError, match='seed: 1 -> 2'):
    with train._claimed(config, tmp_path):
      pass
  config.seed = 1
  config.log.every_steps = 7
  with train._claimed(config, tmp_path):
    pass


def test_a_damaged_config_file_is_an_error(config, tmp_path):
  (tmp_path / 'config.json').write_text('{')
  (tmp_path / 'metrics.jsonl').touch()
  with pytest.raises(errors.UserError, match='cannot be read as JSON'):
    with train._claimed(config, tmp_path):
      pass


@pytest.mark.parametrize(
  'content, reason',
  [
    (b'[1]', 'it holds a list, not settings'),
    (b'null', 'it holds a NoneType'),
    (b'[' * 10**5, 'nested deeper than 32 levels'),
    (b'{"seed": 0, "seed": 0}', "the key 'seed' occurs twice"),
    (b'{"seed": %s}' % (b'1' * 5000), 'an integer of 5000 digits'),
    (b'\xff{}', "can't decode byte 0xff"),
  ],
)
def test_a_config_file_that_is_no_settings_is_an_error(
  config, tmp_path, content, reason
):
  (tmp_path / 'config.json').write_bytes(content)
  (tmp_path / 'metrics.jsonl').touch()
  with pytest.raises(errors.UserError, match=reason) as caught:
    with train._claimed(config, tmp_path):
      pass
  assert 'remove it to resume with the settings' in str(caught.value)
  assert (tmp_path / 'config.json').read_bytes() == content


def test_values_of_another_type_are_shown_shortened(config, tmp_path):
  old = config_lib.flatten(config) | {'seed': ['x' * 500], 'new': {'a': [1]}}
  (tmp_path / 'config.json').write_text(json.dumps(old))
  (tmp_path / 'metrics.jsonl').touch()
  with pytest.raises(errors.UserError, match='other settings') as caught:
    with train._claimed(config, tmp_path):
      pass
  assert "new: {'a': [1]} -> None; seed: ['xxx" in str(caught.value)
  assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
  'classes, expected',
  [(('a', 'c'), 'differ in b, c'), (('b', 'a'), 'differ in their order')],
)
def test_both_splits_have_the_same_classes(
  config, monkeypatch, classes, expected
):
  names = {'train': ('a', 'b'), 'eval': classes}
  monkeypatch.setattr(
    inputs,
    'load_source',
    lambda config, use: types.SimpleNamespace(
      split=use, class_names=names[use], num_classes=2
    ),
  )
  with pytest.raises(errors.UserError, match=expected):
    train._load_sources(config)


def test_the_start_is_random_or_the_latest_checkpoint(config, tmp_path):
  config.train.ema_decay = 0.9
  run = steps.make_steps(config, 10, lambda step: 0.1)
  saver = checkpoint.Checkpointer(tmp_path)
  create, step, metrics = train._start_state(run, saver)
  assert (step, metrics) == (0, {})
  state = create()
  assert state.ema_params.keys() == state.params.keys()
  state = jax.device_get(state)
  later = state._replace(
    params=jax.tree.map(lambda x: x + 1, state.params), step=np.int32(5)
  )
  saver.save(5, later, {'eval/top1': 0.5})
  saver.close()
  saver = checkpoint.Checkpointer(tmp_path)
  resumed, step, metrics = train._start_state(run, saver)
  assert (step, metrics) == (5, {'eval/top1': 0.5})
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed()), later)


def test_the_summary_contains_the_step_of_a_resumed_run(config):
  run = steps.make_steps(config, 10, lambda step: 0.1)
  first, resumed = (train._summary(run, '1 GiB', step) for step in (0, 8))
  assert resumed == f'{first}\nresuming from step 8'
  assert 'memory     1 GiB' in first
  model = run.model
  count = sum(
    x.size
    for x in jax.tree.leaves(
      jax.eval_shape(
        model.init, jax.random.key(0), jax.numpy.zeros((1, 32, 32, 3))
      )[0]
    )
  )
  assert f'nf_resnet50: {count:,} parameters' in first


@pytest.mark.parametrize(
  'status, first',
  [
    (143, 'stopped at step 9: rerun the command to resume'),
    (0, 'held-out accuracy: 75.00%'),
  ],
)
def test_the_ending_contains_accuracy_and_paths(tmp_path, status, first):
  outcome = loop.Outcome(None, 9, {'eval/top1': 0.75}, status)
  lines = train._ending(outcome, tmp_path).splitlines()
  assert lines == [
    first,
    f'checkpoint:  {tmp_path}/checkpoints/9',
    f'metrics:     {tmp_path}/metrics.jsonl',
    f'TensorBoard: {tmp_path}/tensorboard',
  ]
