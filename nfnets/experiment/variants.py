"""Variants of an experiment file, read from its source without running it.

A file whose `get_config` takes an argument lists the possible values:

  VARIANTS = ('b0', 'b1')

  def get_config(variant='b0'):
    ...

`--config=FILE:b1` selects one. Nothing slow is imported here, because --help
shows the variants.
"""

import ast
import pathlib
import re
from typing import NamedTuple

from nfnets import errors


class Declared(NamedTuple):
  """The variants that a file declares.

  Attributes:
    names: the values in VARIANTS; () if there is no such literal.
    default: the variant that get_config has as its default, if any.
    takes_one: whether get_config takes an argument; True if unknown.
  """

  names: tuple[str, ...] = ()
  default: str | None = None
  takes_one: bool = True


class Choice(NamedTuple):
  """An experiment as `--config` specifies it.

  Attributes:
    path: the file.
    variant: the variant, or the file's default; None without variants.
  """

  path: pathlib.Path
  variant: str | None

  @property
  def run_name(self) -> str:
    """The name of the default workdir, such as 'nf_regnet_b1'."""
    parts = [self.path.stem, *([self.variant] if self.variant else [])]
    return re.sub(r'[^\w.+-]', '_', '_'.join(parts), flags=re.ASCII)


def read(path: pathlib.Path) -> Declared:
  """Reads the variants that a file declares.

  Args:
    path: a Python file. If it cannot be parsed, it declares nothing; the error
      is reported when it is imported.
  """
  try:
    module = ast.parse(path.read_bytes())
  except (OSError, SyntaxError, ValueError):
    return Declared()
  names: tuple[str, ...] = ()
  default, takes_one = None, True
  for node in module.body:
    if isinstance(node, ast.Assign) and _assigns_variants(node):
      names = _literal_names(node.value)
    if isinstance(node, ast.FunctionDef) and node.name == 'get_config':
      arguments = node.args
      takes_one = bool(arguments.posonlyargs + arguments.args) or (
        arguments.vararg is not None
      )
      if arguments.defaults:
        first = arguments.defaults[0]
        default = first.value if isinstance(first, ast.Constant) else None
  return Declared(names, default if default in names else None, takes_one)


def resolve(path: pathlib.Path, variant: str | None) -> Choice:
  """Checks a variant against the file's list.

  Args:
    path: the experiment's file.
    variant: the text after the colon in --config, or None without one.

  Raises:
    UserError: the file has no such variant, takes none or needs one.
  """
  declared = read(path)
  if variant is None and not declared.names:
    return Choice(path, None)
  if variant is None:
    if declared.default is None:
      raise errors.UserError(
        f'--config={path}: no variant; write --config={path}:VARIANT with one'
        f' of {", ".join(declared.names)}'
      )
    return Choice(path, declared.default)
  if not declared.takes_one:
    raise errors.UserError(
      f'--config={path}:{variant}: {path} has no variants; write'
      f' --config={path}'
    )
  if declared.names and variant not in declared.names:
    raise errors.UserError(
      f'--config={path}:{variant}: no such variant'
      f'{errors.hint(variant, declared.names)} (variants:'
      f' {", ".join(declared.names)})'
    )
  return Choice(path, variant)


def describe(folder: pathlib.Path) -> list[str]:
  """Returns one line per file with variants: 'nf_regnet.py: b0, b1, ...'."""
  lines = []
  for path in _python_files(folder):
    names = read(path).names
    if names:
      lines.append(f'{path}: {", ".join(names)}')
  return lines


def closest(path: pathlib.Path) -> str | None:
  """Suggests a value of --config for a path that does not exist.

  Args:
    path: the path, such as 'experiments/nf_regnet_b1.py'.

  Returns:
    A file in the same folder, with a variant if that is closer, such as
    'experiments/nf_regnet.py:b1'; None if no name is similar.
  """
  known: dict[str, str] = {}
  for file in _python_files(path.parent):
    known[file.stem] = str(file)
    for name in read(file).names:
      known[Choice(file, name).run_name] = f'{file}:{name}'
  near = errors.nearest(path.stem, known)
  return known[near] if near else None


def _python_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the files in a folder, sorted; none if it cannot be read."""
  try:
    return sorted(folder.glob('*.py'))
  except OSError:
    return []


def _assigns_variants(node: ast.Assign) -> bool:
  return any(
    isinstance(target, ast.Name) and target.id == 'VARIANTS'
    for target in node.targets
  )


def _literal_names(value: ast.expr) -> tuple[str, ...]:
  """Returns the strings of a literal sequence, or the keys of a dict."""
  try:
    literal = ast.literal_eval(value)
  except ValueError:
    return ()
  return (
    tuple(map(str, literal)) if isinstance(literal, tuple | list | dict) else ()
  )
