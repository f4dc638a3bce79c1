"""The command line that all studies share."""

import sys

import pytest

from nfnets import errors
from nfnets.studies import options
from tests.studies import made


def read(monkeypatch, *arguments):
  monkeypatch.setattr(sys, 'argv', ['program', *arguments])
  return options.read(options.make_parser('agc', 'what it does'))


def test_defaults(monkeypatch):
  found = read(monkeypatch)
  assert (found.dataset, found.seeds, found.quick) == ('digits', 3, False)
  assert str(found.out) == 'runs/agc' and found.changed == {}


def test_a_quick_study_has_one_seed_and_another_folder(monkeypatch):
  found = read(monkeypatch, '--quick')
  assert (found.seeds, str(found.out)) == (1, 'runs/agc_quick')
  found = read(monkeypatch, '--quick', '--seeds=2', '--out=x')
  assert (found.seeds, str(found.out)) == (2, 'x')


def test_settings_are_read_and_checked(monkeypatch):
  found = read(monkeypatch, '--config.model.width=0.5')
  assert found.changed == {'model.width': 0.5}
  with pytest.raises(errors.UserError, match='did you mean'):
    read(monkeypatch, '--config.model.widht=0.5')
  with pytest.raises(errors.UserError, match='unknown argument'):
    read(monkeypatch, '--other=1')
  with pytest.raises(errors.UserError, match='--out is empty'):
    read(monkeypatch, '--out=')


def test_the_users_settings_replace_those_of_the_study():
  given = made.own()._replace(changed={'model.width': 0.5})
  combined = options.combine(
    {'model.width': 1.0, 'seed': 0}, given, {'seed': 3}
  )
  assert combined == {'model.width': 0.5, 'seed': 3}


def test_a_setting_that_the_study_varies_cannot_be_changed():
  given = made.own()._replace(changed={'seed': 5})
  with pytest.raises(errors.UserError, match='--config.seed has no effect'):
    options.combine({}, given, {'seed': 3})


@pytest.mark.parametrize('arguments', [['--seeds=0'], ['--seeds=x']])
def test_numbers_are_checked(monkeypatch, capsys, arguments):
  with pytest.raises(SystemExit):
    read(monkeypatch, *arguments)
  assert 'is not a whole number from 1 on' in capsys.readouterr().err


@pytest.mark.parametrize('text', ['0', '-1', 'nan', 'inf', 'x'])
def test_positive(text):
  assert options.positive('0.5') == 0.5
  with pytest.raises(options.argparse.ArgumentTypeError):
    options.positive(text)
