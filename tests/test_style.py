"""Style, held by tools where there is one and by reading the source."""

import ast
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = sorted((ROOT / 'nfnets').rglob('*.py'))
MAX_FILE_LINES = 300
MAX_BODY_LINES = 40

# What no file may hold: folders of one machine, and loose ends.
FORBIDDEN = re.compile(
  r'(?<![\w.~:/-])/(home|root|Users|work|opt|mnt|srv)/\w'
  r'|\b(TODO|FIXME|XXX)\b'
  r'|^(<{7}|>{7}) '
)
# Sites that the documents and the sources may point to.
SITES = {
  'arxiv.org',
  'github.com',
  'huggingface.co',
  'keepachangelog.com',
  'scikit-learn.org',
  'semver.org',
  'storage.googleapis.com',
  'www.apache.org',
  'www.image-net.org',
  'image-net.org',
}


def tracked() -> list[pathlib.Path]:
  """Text files under version control."""
  if shutil.which('git') is None or not (ROOT / '.git').exists():
    pytest.skip('not a git checkout')
  names = subprocess.check_output(
    ['git', 'ls-files', '-z'], cwd=ROOT, text=True
  )
  return [ROOT / name for name in names.split('\0') if name]


def functions(path: pathlib.Path) -> list[ast.FunctionDef]:
  nodes = ast.walk(ast.parse(path.read_text()))
  return [node for node in nodes if isinstance(node, ast.FunctionDef)]


def body_lines(path: pathlib.Path, function: ast.FunctionDef) -> int:
  """Lines of code of a function, without those of functions inside it."""
  body = function.body
  body = body[1:] if ast.get_docstring(function) else body
  if not body:
    return 0
  inner = {
    number
    for node in ast.walk(function)
    if isinstance(node, ast.FunctionDef) and node is not function
    for number in range(node.lineno, node.end_lineno + 1)
  }
  lines = path.read_text().splitlines()
  return sum(
    number not in inner
    and re.match(r'\s*[^\s#]', lines[number - 1]) is not None
    for number in range(body[0].lineno, function.end_lineno + 1)
  )


def run_tool(*args: str):
  run = subprocess.run(
    [sys.executable, '-m', *args], cwd=ROOT, capture_output=True, text=True
  )
  assert run.returncode == 0, run.stdout + run.stderr


def test_ruff():
  run_tool('ruff', 'check', '.')


def test_ruff_format():
  run_tool('ruff', 'format', '--check', '.')


def test_mypy():
  run_tool('mypy', 'nfnets')


def test_files_fit_in_300_lines():
  lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE}
  assert not {p: n for p, n in lengths.items() if n > MAX_FILE_LINES}


def test_functions_fit_on_a_screen():
  long = [
    f'{path.relative_to(ROOT)}:{function.lineno} {function.name}'
    for path in PACKAGE
    for function in functions(path)
    if body_lines(path, function) > MAX_BODY_LINES
  ]
  assert not long


def test_every_argument_and_result_is_annotated():
  bare = []
  for path in PACKAGE:
    for function in functions(path):
      arguments = function.args
      named = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        *filter(None, (arguments.vararg, arguments.kwarg)),
      ]
      missing = [
        argument.arg
        for argument in named
        if argument.annotation is None and argument.arg not in ('self', 'cls')
      ]
      untyped = function.returns is None and function.name != '__init__'
      if missing or untyped:
        bare.append(f'{path.relative_to(ROOT)}:{function.lineno}')
  assert not bare


def test_no_machine_and_no_loose_end_in_any_file():
  found = []
  for path in tracked():
    try:
      lines = path.read_text().splitlines()
    except UnicodeDecodeError:
      continue
    if path == pathlib.Path(__file__):
      continue
    found += [
      f'{path.relative_to(ROOT)}:{number} {line.strip()[:80]}'
      for number, line in enumerate(lines, 1)
      if FORBIDDEN.search(line)
    ]
  assert not found


def test_every_site_is_a_known_one():
  found = set()
  for path in tracked():
    try:
      text = path.read_text()
    except UnicodeDecodeError:
      continue
    found.update(re.findall(r'https?://([\w.-]+)', text))
  assert found <= SITES
