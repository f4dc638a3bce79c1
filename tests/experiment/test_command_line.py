"""Command lines: overrides have the right type, errors are one line."""

import sys

import pytest

from nfnets import errors
from nfnets.experiment import command_line

CONFIG = '--config=experiments/digits.py'
BASE = 'from nfnets.experiment import config as c\ndef get_config():\n'


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch, request):
  monkeypatch.chdir(request.config.rootpath)


@pytest.fixture
def settings_file(monkeypatch, tmp_path):
  # ml_collections loads every file into one module, which keeps the names of
  # the file before.
  monkeypatch.delitem(sys.modules, 'config_config', raising=False)
  return tmp_path / 'mine.py'


def error_of(arguments):
  with pytest.raises(errors.UserError) as caught:
    command_line.parse_config(arguments)
  message = str(caught.value)
  assert '\n' not in message
  return message


def test_overrides_are_typed():
  config, name = command_line.parse_config(
    [
      CONFIG,
      '--config.train.batch_size=16',
      '--config.optimizer.learning_rate',
      '1',
      '--config.model.depth=1,2,3,4',
      '--config.train.ema_decay=0',
      '--config.dataset=folder:/pictures',
    ]
  )
  assert name == 'digits'
  assert config.train.batch_size == 16
  assert config.optimizer.learning_rate == 1.0
  assert config.model.depth == (1, 2, 3, 4)
  assert config.train.ema_decay == 0.0
  assert config.dataset == 'folder:/pictures'


@pytest.mark.parametrize(
  'value, model, name',
  [
    ('nf_regnet.py:b3', 'nf_regnet_b3', 'nf_regnet_b3'),
    ('nf_regnet.py', 'nf_regnet_b0', 'nf_regnet_b0'),
    ('nfnet_plus.py:f4', 'nfnet_f4+', 'nfnet_plus_f4'),
    ('nf_resnet.py:101', 'nf_resnet101', 'nf_resnet_101'),
  ],
)
def test_variants(value, model, name):
  config, run_name = command_line.parse_config(
    [f'--config=experiments/{value}', '--config.seed=1']
  )
  assert (config.model.name, run_name, config.seed) == (model, name, 1)


@pytest.mark.parametrize(
  'arguments, expected',
  [
    ([], 'no --config'),
    (['--config='], 'no --config'),
    ([f'--config={"x" * 300}/digits.py'], 'digits.py: no such file'),
    (['--config=experiments/digts.py'], 'did you mean experiments/digits.py?'),
    (
      ['--config=experiments/nf_regnet_b3.py'],
      'did you mean experiments/nf_regnet.py:b3?',
    ),
    (
      ['--config=experiments/nf_regnet.py:b9'],
      'nf_regnet.py:b9: no such variant (variants: b0, b1, b2, b3, b4, b5, b6,',
    ),
    (['--config=experiments/nf_resnet.py:10'], "did you mean '101'?"),
    (
      ['--config=experiments/digits.py:f0'],
      'digits.py:f0: experiments/digits.py has no variants',
    ),
    ([CONFIG, '--config.train.batchsize=3'], '--config.train.batch_size?'),
    ([CONFIG, '--config.trian.epochs=3'], '--config.train.epochs?'),
    ([CONFIG, '--config.train=3'], '--config.train is a group of settings'),
    ([CONFIG, '--config.train.batch_size=x'], "'x'"),
    ([CONFIG, '--config.train.batch_size=1.5'], '1.5'),
    ([CONFIG, '--config.train.batch_size'], 'no value'),
    ([CONFIG, '--config.train.batch_size=-1'], 'config.train.batch_size is -1'),
    ([CONFIG, '--workdri=x'], "'--workdri=x'"),
    ([CONFIG, 'stray'], "'stray'"),
  ],
)
def test_errors_are_one_line(arguments, expected):
  assert expected in error_of(arguments)


@pytest.mark.parametrize(
  'text, expected',
  [
    ('def get_config(:\n', 'SyntaxError'),
    ('def get_config():\n  return 1 / 0\n', 'division by zero'),
    ('x = 1\n', 'get_config'),
    ('def get_config():\n  return 3\n', 'not a ConfigDict'),
    (
      'import ml_collections\n'
      'def get_config():\n  return ml_collections.ConfigDict()\n',
      'nfnets.experiment.config.base()',
    ),
    (
      BASE + '  x = c.base()\n  x.train.epoch = 3\n  return x\n',
      'unknown setting train.epoch: did you mean --config.train.epochs?',
    ),
  ],
)
def test_the_error_in_a_settings_file_is_reported(
  settings_file, text, expected
):
  settings_file.write_text(text)
  message = error_of([f'--config={settings_file}'])
  assert str(settings_file) in message
  assert expected in message


def test_a_file_may_take_any_argument_if_it_lists_none(settings_file):
  text = BASE.replace('()', '(size)') + '  x = c.base()\n'
  settings_file.write_text(text + '  x.seed = int(size)\n  return x\n')
  config, name = command_line.parse_config([f'--config={settings_file}:12'])
  assert (config.seed, name) == (12, 'mine_12')
