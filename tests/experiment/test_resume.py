"""Which settings may change between two starts of a run.

Whole runs are in test_main.py.
"""

import json

import pytest

from nfnets import errors
from nfnets.experiment import config as config_lib
from nfnets.experiment import resume
from tests.experiment import tiny

EXAMPLES = 1437


@pytest.fixture
def config():
  config = tiny.make_config(32)
  config.train.batch_size = 64
  return config


@pytest.fixture
def workdir(config, tmp_path):
  """A run of 22 * 360 steps that has results."""
  resume.save_settings(config, tmp_path)
  (tmp_path / 'metrics.jsonl').touch()
  return tmp_path


def start(config, workdir):
  """Returns the length that the run had."""
  with resume.claimed(config, workdir, EXAMPLES) as before:
    resume.save_settings(config, workdir)
  return before


def test_the_settings_are_saved(config, tmp_path):
  resume.save_settings(config, tmp_path)
  settings = json.loads((tmp_path / 'config.json').read_text())
  assert settings == config_lib.flatten(config)


def test_processes_compare_their_code_and_settings(
  config, tmp_path, monkeypatch
):
  compared = {}
  monkeypatch.setattr(
    resume.devices,
    'check_same',
    lambda text, what: compared.update({what: text}),
  )
  with resume.claimed(config, tmp_path, EXAMPLES):
    pass
  assert compared == {
    'the code (nfnets/)': resume._digest_code(),
    'the config': json.dumps(config_lib.flatten(config)),
  }


def test_the_digest_covers_every_source_file_and_nothing_else(tmp_path):
  (tmp_path / 'models').mkdir()
  for name in ('a.py', 'models/b.py'):
    (tmp_path / name).write_text('x = 1\n')
  before = resume._digest_code(tmp_path)
  (tmp_path / 'models' / 'b.pyc').touch()
  assert resume._digest_code(tmp_path) == before
  (tmp_path / 'models' / 'b.py').write_text('x = 2\n')
  changed = resume._digest_code(tmp_path)
  (tmp_path / 'models' / 'b.py').rename(tmp_path / 'models' / 'c.py')
  renamed = resume._digest_code(tmp_path)
  (tmp_path / 'models' / 'c.py').unlink()
  assert len({before, changed, renamed, resume._digest_code(tmp_path)}) == 4
  assert resume._digest_code() != resume._digest_code(tmp_path)


def test_settings_may_change_only_until_there_are_results(config, tmp_path):
  assert start(config, tmp_path) == 0
  config.seed = 1
  assert start(config, tmp_path) == 0
  (tmp_path / 'metrics.jsonl').touch()
  config.seed = 2
  with pytest.raises(errors.UserError, match='seed: 1 -> 2'):
    start(config, tmp_path)
  config.seed = 1
  config.log.every_steps = 7
  assert start(config, tmp_path) == int(360 * EXAMPLES / 64)


def test_a_damaged_config_file_is_an_error(config, workdir):
  (workdir / 'config.json').write_text('{')
  with pytest.raises(errors.UserError, match='config.json cannot be read'):
    start(config, workdir)


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
  config, workdir, content, reason
):
  (workdir / 'config.json').write_bytes(content)
  with pytest.raises(errors.UserError, match=reason) as caught:
    start(config, workdir)
  assert 'remove it to resume with the settings' in str(caught.value)
  assert (workdir / 'config.json').read_bytes() == content


def test_values_of_another_type_are_shown_shortened(config, workdir):
  old = config_lib.flatten(config) | {'seed': ['x' * 500], 'new': {'a': [1]}}
  (workdir / 'config.json').write_text(json.dumps(old))
  with pytest.raises(errors.UserError, match='other settings') as caught:
    start(config, workdir)
  assert "new: {'a': [1]} -> None; seed: ['xxx" in str(caught.value)
  assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
  'changes', [{'epochs': 720}, {'epochs': 361.0}, {'steps': 10**6}]
)
def test_a_run_may_become_longer(config, workdir, changes):
  config.train.update(changes)
  assert start(config, workdir) == int(360 * EXAMPLES / 64)
  now = config_lib.steps(config.train, '', EXAMPLES, 64)
  assert start(config, workdir) == now > int(360 * EXAMPLES / 64)


def test_the_same_length_in_another_unit_is_no_change(config, workdir):
  config.train.steps = int(360 * EXAMPLES / 64)
  assert start(config, workdir) == config.train.steps


@pytest.mark.parametrize(
  'changes, expected',
  [
    ({'epochs': 30.0}, 'train.epochs: 360.0 -> 30.0; 8083 steps -> 673, and'),
    ({'steps': 5}, 'train.steps: 0 -> 5; 8083 steps -> 5, and a run cannot'),
    ({'epochs': 720.0, 'batch_size': 32}, '(train.batch_size: 64 -> 32)'),
    ({'epochs': 720.0, 'sam_rho': 0.1}, '(train.sam_rho: 0.0 -> 0.1)'),
  ],
)
def test_nothing_else_may_change(config, workdir, changes, expected):
  before = (workdir / 'config.json').read_text()
  config.train.update(changes)
  with pytest.raises(errors.UserError) as caught:
    start(config, workdir)
  assert expected in str(caught.value)
  assert (workdir / 'config.json').read_text() == before


def test_a_start_that_fails_leaves_the_length_as_it_was(config, workdir):
  config.train.epochs = 720.0
  with pytest.raises(KeyboardInterrupt):
    with resume.claimed(config, workdir, EXAMPLES):
      raise KeyboardInterrupt
  config.train.epochs = 360.0
  assert start(config, workdir) == int(360 * EXAMPLES / 64)


def test_the_length_of_settings_of_an_earlier_version(config):
  settings = config_lib.flatten(config)
  assert resume.total_steps(settings, EXAMPLES) == int(360 * EXAMPLES / 64)
  assert resume.total_steps({'train.steps': 7}, EXAMPLES) == 7


def test_the_line_of_a_longer_run_has_all_three_steps():
  line = resume.describe_longer(100, 250, 80)
  assert 'had 100 steps and now has 250: from step 80 on' in line
