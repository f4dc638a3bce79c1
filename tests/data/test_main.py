"""python -m nfnets.data, run as a command."""

import subprocess
import sys

import cv2
import pytest

from tests.data import pictures


def run(*arguments):
  command = [sys.executable, '-m', 'nfnets.data', *map(str, arguments)]
  return subprocess.run(command, capture_output=True, text=True)


def test_describes_a_folder_and_writes_samples(tmp_path):
  root = tmp_path / 'images'
  paths = pictures.write_class_folders(root, range(40))
  paths[5].write_bytes(paths[5].read_bytes()[:100])
  result = run(f'folder:{root}', '--grid', tmp_path / 'x.png')
  assert result.returncode == 0, result.stderr
  lines = result.stdout.splitlines()
  assert lines[0].startswith(f'folder:{root}: 10 classes: 0, 1, 2')
  assert any(line.startswith('train: ') for line in lines)
  assert any('the same' in line and 'as valid' in line for line in lines)
  assert f'    {paths[5]}: truncated PNG' in lines
  assert lines[-1] == f'samples of train: {tmp_path / "x.png"}'
  assert cv2.imread(str(tmp_path / 'x.png')).shape[0] > 500


def test_a_data_set_in_which_nothing_can_be_read(tmp_path):
  for path in pictures.write_class_folders(tmp_path / 'images', range(40)):
    path.write_bytes(b'')
  result = run(f'folder:{tmp_path}/images', '--grid', tmp_path / 'x.png')
  assert result.returncode == 1
  assert result.stderr.count('\n') == 1
  assert 'split train: none of 30 images can be read' in result.stderr
  assert result.stdout.count('empty file') == 2
  assert not (tmp_path / 'x.png').exists()


@pytest.mark.parametrize(
  ('arguments', 'status', 'shown'),
  [
    (['nope'], 1, "error: data set 'nope' is not prepared"),
    (['folder:/nope'], 1, 'there is no folder /nope'),
    (['/tmp'], 1, 'write folder:/tmp'),
    (['digits', '--limit', '0'], 2, '0 is not at least 1'),
    ([], 2, 'dataset'),
  ],
)
def test_errors_are_one_line(arguments, status, shown):
  result = run(*arguments)
  assert result.returncode == status
  assert shown in result.stderr
  assert 'Traceback' not in result.stderr


def test_help_imports_no_large_library():
  code = (
    'import sys; sys.argv = ["x", "--help"]\n'
    'from nfnets.data import __main__ as m\n'
    'try: m.main()\n'
    'except SystemExit: pass\n'
    'print([k for k in ("cv2", "jax", "grain") if k in sys.modules])'
  )
  result = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert result.stdout.splitlines()[-1] == '[]'
