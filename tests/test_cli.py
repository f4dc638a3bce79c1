"""Command lines: what a user can get wrong is one line."""

import sys

import pytest

from nfnets import cli, errors
from nfnets.experiment import command_line

CONFIG = '--config=experiments/digits.py'


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch, request):
  monkeypatch.chdir(request.config.rootpath)


def test_overrides_are_typed():
  config, path = command_line.parse_config(
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
  assert path.name == 'digits.py'
  assert config.train.batch_size == 16
  assert config.optimizer.learning_rate == 1.0
  assert config.model.depth == (1, 2, 3, 4)
  assert config.train.ema_decay == 0.0
  assert config.dataset == 'folder:/pictures'


@pytest.mark.parametrize(
  'arguments, expected',
  [
    ([], 'no --config'),
    (['--config='], 'no --config'),
    (['--config=experiments/digts.py'], 'did you mean experiments/digits.py?'),
    ([CONFIG, '--config.train.batchsize=3'], '--config.train.batch_size?'),
    ([CONFIG, '--config.trian.epochs=3'], '--config.train.epochs?'),
    ([CONFIG, '--config.train=3'], 'it holds settings'),
    ([CONFIG, '--config.train.batch_size=x'], "'x'"),
    ([CONFIG, '--config.train.batch_size=1.5'], '1.5'),
    ([CONFIG, '--config.train.batch_size'], 'no value'),
    ([CONFIG, '--config.train.batch_size=-1'], 'config.train.batch_size is -1'),
    ([CONFIG, '--workdri=x'], "'--workdri=x'"),
    ([CONFIG, 'stray'], "'stray'"),
  ],
)
def test_mistakes_are_one_line(arguments, expected):
  with pytest.raises(errors.UserError) as caught:
    command_line.parse_config(arguments)
  message = str(caught.value)
  assert expected in message
  assert '\n' not in message


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
      'nfnets.config.base()',
    ),
  ],
)
def test_a_broken_settings_file_is_named(tmp_path, monkeypatch, text, expected):
  # ml_collections loads every file into one module, names of the last
  # included.
  monkeypatch.delitem(sys.modules, 'config_config', raising=False)
  path = tmp_path / 'broken.py'
  path.write_text(text)
  with pytest.raises(errors.UserError) as caught:
    command_line.parse_config([f'--config={path}'])
  assert str(path) in str(caught.value)
  assert expected in str(caught.value)


@pytest.mark.parametrize(
  'raised, status, printed',
  [
    (errors.UserError('batch 3: too odd'), 1, 'error: batch 3: too odd\n'),
    (KeyboardInterrupt(), 130, 'interrupted\n'),
    (None, 0, ''),
  ],
)
def test_run_ends_with_a_status_and_no_traceback(
  capsys, raised, status, printed
):
  def main():
    if raised:
      raise raised

  with pytest.raises(SystemExit) as caught:
    cli.run(main)
  assert caught.value.code == status
  assert capsys.readouterr().err == printed
