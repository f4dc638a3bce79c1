"""The package's source as syntax trees, for the tests that read it."""

import ast
import functools
import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted((ROOT / 'nfnets').rglob('*.py'))


@functools.cache
def tree(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text())


def nodes(path: pathlib.Path, at_import: bool) -> Iterator[ast.AST]:
  """Yields syntax nodes: all, or those that run when a file is imported."""
  waiting: list[ast.AST] = [tree(path)]
  while waiting:
    node = waiting.pop()
    yield node
    is_function = isinstance(node, ast.FunctionDef | ast.Lambda)
    if not (at_import and is_function):
      waiting += ast.iter_child_nodes(node)


def imports(path: pathlib.Path, at_import: bool = False) -> set[str]:
  """Returns the full names of the modules or members that a file imports."""
  names = set()
  for node in nodes(path, at_import):
    if isinstance(node, ast.Import):
      names.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import, line {node.lineno}'
      names.update(f'{node.module}.{alias.name}' for alias in node.names)
  return names


def functions(path: pathlib.Path) -> list[ast.FunctionDef]:
  nodes = ast.walk(tree(path))
  return [node for node in nodes if isinstance(node, ast.FunctionDef)]


def docstrings(path: pathlib.Path) -> list[str]:
  """Returns the docstrings of a file, with their indentation removed."""
  documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
  nodes = ast.walk(tree(path))
  texts = [ast.get_docstring(n) for n in nodes if isinstance(n, documented)]
  return [text for text in texts if text]


def body_lines(path: pathlib.Path, function: ast.FunctionDef) -> int:
  """Counts a function's lines of code, without functions inside it."""
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


def function_lines(function: ast.FunctionDef) -> int:
  """Counts the lines from `def` to the end, without the docstring's."""
  lines = function.end_lineno - function.lineno + 1
  if ast.get_docstring(function):
    docstring = function.body[0]
    lines -= docstring.end_lineno - docstring.lineno + 1
  return lines
