"""docs/quickstart.ipynb: its code runs, and it is stored without results."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests import documents

_DOCS = documents.ROOT / 'docs'
_NOTEBOOK = json.loads((_DOCS / 'quickstart.ipynb').read_text())


def _sources(kind):
  return [
    ''.join(cell['source'])
    for cell in _NOTEBOOK['cells']
    if cell['cell_type'] == kind
  ]


def test_it_is_stored_without_results():
  assert _NOTEBOOK['nbformat'] == 4
  for cell in _NOTEBOOK['cells']:
    if cell['cell_type'] == 'code':
      assert (cell['outputs'], cell['execution_count']) == ([], None)
  for name in re.findall(
    r'\]\((\w[\w.]*\.md)\)', ''.join(_sources('markdown'))
  ):
    assert (_DOCS / name).is_file(), name


@pytest.mark.slow
def test_its_code_runs(tmp_path):
  # As in Jupyter, the current folder is the notebook's and not on the path.
  program = '\n\n'.join(_sources('code'))
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'TMPDIR': str(tmp_path)}
  done = subprocess.run(
    [sys.executable, '-P', '-'],
    input=program,
    cwd=_DOCS,
    env=environment,
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  variances = re.findall(r'block \d: (\S+), by the formula 1.04', done.stdout)
  assert len(variances) == 4
  assert all(0.8 < float(variance) < 1.3 for variance in variances)
  (correct,) = re.findall(r'(\S+)% of 360 held-out digits', done.stdout)
  (agree,) = re.findall(r'(\S+)% of the neighbors agree', done.stdout)
  assert float(correct) > 90 and float(agree) > 90
