import sys

import pytest

from nfnets.data import progress


def test_quick_work_prints_nothing(capsys):
  assert list(progress.track(range(5), 5, 'counting', 'items')) == [*range(5)]
  assert capsys.readouterr() == ('', '')


def test_slow_work_prints_progress(capsys, monkeypatch):
  times = iter([0.0, 1.0, 3.0, 3.0, 4.0, 40.0, 40.0])
  monkeypatch.setattr(progress.time, 'monotonic', lambda: next(times))
  assert list(progress.track('abcd', 4, 'counting', 'items')) == [*'abcd']
  out, err = capsys.readouterr()
  assert not out
  assert err == 'counting: 1 of 4 items\ncounting: 3 of 4 items\n'


def test_terminal_shows_a_bar(capsys, monkeypatch):
  monkeypatch.setattr(
    progress.sys.stderr, 'isatty', lambda: True, raising=False
  )
  assert list(progress.track('abc', 3, 'counting', 'items')) == [*'abc']
  assert not capsys.readouterr().out


@pytest.mark.parametrize('name', ['photo[copy].jpg', ':cat:', '[red]x[/]'])
def test_names_are_printed_beside_a_bar_as_they_are(capsys, monkeypatch, name):
  monkeypatch.setattr(
    progress.sys.stderr, 'isatty', lambda: True, raising=False
  )
  monkeypatch.setenv('TERM', 'xterm')
  for _ in progress.track('a', 1, 'counting', 'items'):
    print(name, end='', file=sys.stderr, flush=True)
  assert name in capsys.readouterr().err
