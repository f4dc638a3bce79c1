"""docs/reliability.md lists every fault test, and only tests that exist."""

import re

from tests.faults import runs

FOLDER = runs.ROOT / 'tests' / 'faults'
PAGE = runs.ROOT / 'docs' / 'reliability.md'


def rows():
  lines = re.findall(r'^\| (\d+) \|.*\| (`.*) \|$', PAGE.read_text(), re.M)
  return [(int(number), tests) for number, tests in lines]


def listed(tests):
  """Yields (file, name); a test without a file is in the file before it."""
  file = None
  for path, name in re.findall(r'`(\w+\.py)?::(\w+)`', tests):
    file = path or file
    yield file, name


def defined():
  return {
    (path.name, name)
    for path in FOLDER.glob('test_*.py')
    if path.name != 'test_table.py'
    for name in re.findall(r'^def (test_\w+)', path.read_text(), re.M)
  }


def test_rows_are_numbered_in_order():
  assert [number for number, _ in rows()] == list(range(1, len(rows()) + 1))
  assert len(rows()) >= 28


def test_every_row_has_a_test_and_every_test_a_row():
  found = [set(listed(tests)) for _, tests in rows()]
  assert all(found)
  assert set().union(*found) == defined()
