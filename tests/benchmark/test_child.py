"""The process that measures another framework."""

import io

import pytest

from nfnets import errors
from nfnets.benchmark import child


def fake_python(tmp_path, monkeypatch, script):
  """Replaces the interpreter that runs the child by a shell script."""
  path = tmp_path / 'python'
  path.write_text(f'#!/bin/sh\n{script}\n')
  path.chmod(0o755)
  monkeypatch.setattr('sys.executable', str(path))


def test_a_child_that_fails_raises_with_its_last_line(tmp_path, monkeypatch):
  fake_python(tmp_path, monkeypatch, 'echo no torch here >&2\nexit 1')
  message = 'timm did not run: no torch here'
  with pytest.raises(errors.UserError, match=message):
    with child.started('timm', 'nfnets.x', (1, 'a'), ['forward']):
      pass


def test_a_child_answers_each_request(tmp_path, monkeypatch):
  # The seconds are the number of letters of the request, which ends with the
  # number of runs; the bytes are the number of arguments.
  script = 'while read -r line; do echo ${#line} $#; done'
  fake_python(tmp_path, monkeypatch, script)
  calls = ['forward', 'train_step fast']
  with child.started('timm', 'nfnets.x', (1, 'a'), calls) as contestants:
    seconds = {name: run(10) for name, run in contestants.items()}
    memory = {run.memory for run in contestants.values()}
  assert seconds == {call: len(f'{call} 10') for call in calls}
  assert memory == {4}


def test_the_server_waits_once_for_all_runs(monkeypatch, capsys):
  log = []
  monkeypatch.setattr('sys.stdin', io.StringIO('a step 3\nother 1\n'))
  child.serve(
    {'a step': lambda: log.append('run'), 'other': lambda: None},
    wait=lambda: log.append('wait'),
    peak_memory=lambda: len(log),
  )
  assert log == ['wait', 'run', 'run', 'run', 'wait', 'wait', 'wait']
  answers = [line.split() for line in capsys.readouterr().out.splitlines()]
  assert [memory for _, memory in answers] == ['5', '7']
  assert all(float(seconds) >= 0 for seconds, _ in answers)
