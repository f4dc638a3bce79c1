import pathlib
import subprocess
import sys

import pytest

from nfnets import errors
from nfnets.data.digits import preparation


def test_two_processes_may_prepare_concurrently(tmp_path):
  code = (
    'import sys, pathlib; from nfnets.data.digits import preparation;'
    'print(preparation.prepare(pathlib.Path(sys.argv[1])))'
  )
  command = [sys.executable, '-c', code, str(tmp_path)]
  both = [
    subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in range(2)
  ]
  printed = [process.communicate()[0].strip() for process in both]
  assert [process.returncode for process in both] == [0, 0]
  assert printed == [str(tmp_path / 'digits' / '1.0.0')] * 2
  # No temporary files remain.
  assert [path.name for path in tmp_path.iterdir()] == ['digits']


def test_prepared_only_once(tmp_path):
  first = preparation.prepare(tmp_path)
  stamps = {path: path.stat().st_mtime_ns for path in first.iterdir()}
  assert preparation.prepare(tmp_path) == first
  assert {p: p.stat().st_mtime_ns for p in first.iterdir()} == stamps


def test_unwritable_folder_is_an_error(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match='file.*XDG_CACHE_HOME'):
    preparation.prepare(pathlib.Path(tmp_path / 'file'))


def test_does_not_import_tensorflow_or_jax(tmp_path):
  code = (
    'import sys; from nfnets.data import pipeline, sources;'
    'sources.load_source("digits", "test", sys.argv[1])[0];'
    'print([m for m in ("jax", "tensorflow") if m in sys.modules])'
  )
  command = [sys.executable, '-c', code, str(tmp_path)]
  result = subprocess.run(command, capture_output=True, text=True, check=True)
  assert result.stdout.strip() == '[]'
