"""How programs end: exit status, and errors in one line."""

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
