"""How programs end: exit status, and errors in one line."""

import os
import pathlib
import subprocess
import sys

import pytest

from nfnets import cli, errors


@pytest.mark.parametrize(
  'raised, status, printed',
  [
    (errors.UserError('batch 3: too odd'), 1, 'error: batch 3: too odd\n'),
    (KeyboardInterrupt(), 130, 'interrupted\n'),
    (None, 0, ''),
  ],
)
def test_run_exits_with_a_status_and_no_traceback(
  capsys, raised, status, printed
):
  def main():
    if raised:
      raise raised

  with pytest.raises(SystemExit) as caught:
    cli.run(main)
  assert caught.value.code == status
  assert capsys.readouterr().err == printed


def test_names_in_errors_are_escaped(capsys):
  def main():
    raise errors.UserError('\x1b[2Ja\nb\udcff\x9b\u202e\u2028: c\u00e9 \u732b')

  with pytest.raises(SystemExit):
    cli.run(main)
  assert capsys.readouterr().err == (
    'error: \\x1b[2Ja\\nb\\udcff\\x9b\\u202e\\u2028: c\u00e9 \u732b\n'
  )


def test_the_exit_status_is_that_of_main():
  with pytest.raises(SystemExit) as caught:
    cli.run(lambda: 143)
  assert caught.value.code == 143


def test_run_program_imports_the_module_and_runs_it(monkeypatch, tmp_path):
  (tmp_path / 'some_program.py').write_text('def main():\n  return 7\n')
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(SystemExit) as caught:
    cli.run_program('some_program')
  assert caught.value.code == 7


def test_a_closed_pipe_is_not_an_error():
  program = (
    'from nfnets import cli\ncli.run(lambda: print("line\\n" * 100_000) or 0)'
  )
  writer = subprocess.Popen(
    [sys.executable, '-c', program],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )
  writer.stdout.close()
  assert writer.stderr.read() == b''
  assert writer.wait() == 0


@pytest.mark.parametrize('word', ['-O', '-OO'])
@pytest.mark.parametrize('module', ['nfnets.models', 'nfnets.experiment'])
def test_python_without_assertions_is_refused(word, module):
  run = subprocess.run(
    [sys.executable, word, '-m', module], capture_output=True, text=True
  )
  assert (run.returncode, run.stdout) == (1, '')
  assert run.stderr.startswith('error: Python runs with -O or PYTHONOPTIMIZE')
  assert len(run.stderr.splitlines()) == 1


def start(main, redirections):
  """Runs a main function with a shell's redirections; returns status, stderr.

  Args:
    main: the body of the function, in one line.
    redirections: such as '>/dev/full'; stderr is captured unless redirected.
  """
  program = f'from nfnets import cli\ndef main(): {main}\ncli.run(main)'
  run = subprocess.run(
    ['sh', '-c', f'exec "$0" -c "$1" {redirections}', sys.executable, program],
    capture_output=True,
    text=True,
  )
  return run.returncode, run.stderr


LOST = (
  'error: stdout cannot be written (No space left on device), so output was'
  ' lost: free some space, or redirect it to another file\n'
)
PRINT = 'print("a line", flush=True)'
LONG = 'print("line\\n" * 100_000)'
HELP = 'import argparse; argparse.ArgumentParser("x").parse_args(["--help"])'
FULL = pathlib.Path('/dev/full')


@pytest.mark.skipif(not FULL.exists(), reason='no full device here')
@pytest.mark.parametrize(
  'main, status',
  [
    (PRINT, 1),
    ('print("a line")', 1),
    (LONG, 1),
    (HELP, 1),
    (f'{PRINT}; return 130', 130),
    ('import rich.console; rich.console.Console().print("a line")', 1),
  ],
)
def test_a_full_disk_under_stdout_is_reported_at_the_end(main, status):
  assert start(main, '>/dev/full') == (status, LOST)


@pytest.mark.skipif(not FULL.exists(), reason='no full device here')
def test_a_full_disk_under_stdout_does_not_end_the_program():
  main = f'import sys; {PRINT}; print("later", file=sys.stderr)'
  assert start(main, '>/dev/full') == (1, f'later\n{LOST}')


@pytest.mark.skipif(not FULL.exists(), reason='no full device here')
def test_a_full_disk_under_stderr_changes_no_status():
  assert start('raise KeyboardInterrupt', '2>/dev/full') == (130, '')
  warn = 'import sys; print("a warning", file=sys.stderr, flush=True)'
  assert start(f'{warn}; return 5', '2>/dev/full') == (5, '')


@pytest.mark.parametrize('redirections', ['>&-', '2>&-', '>&- 2>&- <&-'])
def test_a_closed_stream_is_not_the_next_file(tmp_path, redirections):
  path = tmp_path / 'file'
  main = (
    f'import os; file = open({str(path)!r}, "w"); {PRINT};'
    ' os.write(1, b"x"); os.write(2, b"x"); return 5'
  )
  status, err = start(main, redirections)
  assert (status, err) == (5, '' if '2>' in redirections else 'x')
  assert path.read_text() == ''


@pytest.mark.parametrize('stream', ['stdout', 'stderr'])
def test_unbuffered_output_is_written_immediately(stream):
  program = (
    'import os, sys; from nfnets import cli\n'
    f'def main(): print("line", file=sys.{stream}); os._exit(0)\n'
    'cli.run(main)'
  )
  run = subprocess.run(
    [sys.executable, '-c', program],
    env={**os.environ, 'PYTHONUNBUFFERED': '1'},
    capture_output=True,
    text=True,
  )
  assert getattr(run, stream) == 'line\n'


NAME = 'k\u00e4tze-\u732b-\udcff'
ESCAPED = 'k\\xe4tze-\\u732b-\\udcff'


@pytest.mark.parametrize(
  'variables, expected',
  [
    ({'PYTHONIOENCODING': 'ascii'}, ESCAPED),
    ({'PYTHONIOENCODING': 'ascii:strict'}, ESCAPED),
    ({'PYTHONIOENCODING': 'latin-1'}, ESCAPED.replace('\\xe4', '\xe4')),
    ({'PYTHONIOENCODING': 'utf-8'}, 'k\u00e4tze-\u732b-\\udcff'),
    (
      {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
      ESCAPED,
    ),
    ({'LC_ALL': 'C'}, 'k\u00e4tze-\u732b-\\udcff'),
  ],
)
@pytest.mark.parametrize('stream', ['stdout', 'stderr'])
def test_names_that_the_output_cannot_encode_are_escaped(
  variables, expected, stream
):
  program = (
    'import sys; from nfnets import cli\n'
    f'def main(): print({ascii(NAME)}, file=sys.{stream})\ncli.run(main)'
  )
  run = subprocess.run(
    [sys.executable, '-c', program],
    env={'PATH': os.environ['PATH'], **variables},
    cwd=pathlib.Path(__file__).parents[1],
    capture_output=True,
  )
  assert run.returncode == 0, run.stderr
  encoding = 'latin-1' if 'latin-1' in variables.values() else 'utf-8'
  assert getattr(run, stream).decode(encoding) == f'{expected}\n'
