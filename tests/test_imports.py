"""Who imports whom, read from the source: no cycle, none upward.

Imports inside functions count like those at the top of a file.
"""

import ast
import pathlib
import subprocess
import sys

import pytest

from tests import source

ROOT, FILES = source.ROOT, source.FILES
MAX_TOP_MODULES = 9

# Areas of the package from bottom to top -> the areas that each may import
# besides itself.
FOUNDATION = {'errors', 'files', 'xla'}
AREAS: dict[str, set[str]] = {
  'errors': set(),
  'files': {'errors'},
  'xla': set(),
  'runtime': {'errors', 'files'},
  'cli': {'errors', 'runtime'},
  'report': {'errors', 'files'},
  'losses': set(),
  'layers': FOUNDATION | {'runtime'},
  'optim': FOUNDATION,
  'augment': FOUNDATION,
  'data': {'errors', 'files', 'runtime'},
  'models': FOUNDATION | {'layers'},
}
AREAS['training'] = AREAS['models'] | {
  *('models', 'losses', 'optim', 'augment', 'report'),
}
AREAS['weights'] = AREAS['models'] | {'models'}
AREAS['analysis'] = AREAS['models'] | {'models'}
AREAS['inference'] = AREAS['weights'] | {
  'data',
  'augment',
  'weights',
  'training',
  'runtime',
}
AREAS['export'] = AREAS['weights'] | {'augment', 'data', 'runtime', 'weights'}
_LIBRARY = {'runtime', 'cli', *AREAS['training'], 'training', 'data'}
AREAS['experiment'] = _LIBRARY | {'weights', 'analysis', 'inference'}
AREAS['benchmark'] = _LIBRARY | {'analysis', 'weights', 'export'}
AREAS['predict'] = {'cli', 'runtime', 'inference', *AREAS['inference']}
AREAS['convert'] = AREAS['predict'] | _LIBRARY | {'export'}
AREAS['studies'] = _LIBRARY | {
  *('analysis', 'weights', 'inference', 'experiment'),
}
# The root refers to others by string and loads them on first use.
AREAS['__init__'] = set()

# Programs besides the __main__.py files.
COMMANDS = {
  *('predict', 'convert', 'studies/agc', 'studies/architecture'),
  *('studies/finetune', 'studies/recipe', 'studies/signal_propagation'),
}
# Files that import modules or run files named by strings: this test cannot see
# which.
BY_STRING = {'__init__.py', 'cli.py', 'experiment/command_line.py'}

# Library -> the folders or files that may import it.
HOMES: dict[str, tuple[str, ...]] = {
  'array_record': ('data',),
  'cv2': ('data',),
  'grain': ('data',),
  'haiku': ('layers', 'models'),
  'jinja2': ('report',),
  'matplotlib': ('studies',),
  'ml_collections': ('experiment',),
  'onnx': ('export/onnx_nodes.py',),
  'orbax': ('training/checkpoint.py', 'training/checkpoint_arrays.py'),
  'sklearn': ('data',),
  'tensorflow_datasets': ('data',),
}
FLAGS = {'absl', 'argparse'}
ARRAYS = {'chex', 'haiku', 'jax', 'optax'}
PEERS = {
  *('PIL', 'onnxruntime', 'openvino'),
  *('tensorflow', 'timm', 'torch', 'torchvision'),
}
# Grain reads absl's flags, so its user has to mark them as parsed.
FLAGS_OF_GRAIN = 'data/batches.py'


def name_of(path: pathlib.Path) -> str:
  return str(path.relative_to(ROOT / 'nfnets'))


def module_of(path: pathlib.Path) -> str:
  """Returns a file's full module name."""
  name = name_of(path).removesuffix('.py').replace('/', '.')
  return f'nfnets.{name}'.removesuffix('.__init__')


MODULES = {module_of(path): path for path in FILES}


def area(path: pathlib.Path) -> str:
  """Returns the part of the package that a file belongs to."""
  return path.relative_to(ROOT / 'nfnets').parts[0].removesuffix('.py')


def is_runnable(path: pathlib.Path) -> bool:
  """Returns whether users start a file with `python -m`."""
  return path.name == '__main__.py' or name_of(path) in {
    f'{name}.py' for name in COMMANDS
  }


def may_read_flags(path: pathlib.Path) -> bool:
  # These parse arguments for other programs.
  return is_runnable(path) or name_of(path) in {
    'experiment/preview.py',
    'experiment/command_line.py',
    'studies/options.py',
  }


def own(names: set[str]) -> set[str]:
  """Returns the areas of this package among imported names."""
  return {name.split('.')[1] for name in names if name.startswith('nfnets.')}


def libraries(names: set[str]) -> set[str]:
  return {name.split('.')[0] for name in names}


def imported_files(path: pathlib.Path) -> set[pathlib.Path]:
  """Returns the files of this package that a file's imports read.

  This includes the __init__ of each package on the way. The packages that
  contain the file are already being imported and count only if the file imports
  a member that their __init__ defines.
  """
  read = set()
  for name in source.imports(path):
    parts = name.split('.')
    prefixes = ['.'.join(parts[:end]) for end in range(1, len(parts) + 1)]
    modules = [MODULES[prefix] for prefix in prefixes if prefix in MODULES]
    around = [m for m in modules[:-1] if m.parent not in path.parents]
    read |= {*around, *modules[-1:]}
  return read - {path}


def test_every_file_has_an_area():
  assert {area(path) for path in FILES} == set(AREAS)


def test_areas_are_listed_from_bottom_to_top():
  below: set[str] = set()
  for name, allowed in AREAS.items():
    assert allowed <= below, name
    below.add(name)


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_areas_import_only_what_is_below_them(path):
  allowed = AREAS[area(path)] | {area(path)}
  if path.name == '__main__.py':
    allowed = allowed | {'cli', 'runtime'}
  assert own(source.imports(path)) <= allowed
  assert 'nfnets' not in source.imports(path), 'the root loads everything'


def test_few_files_import_by_string():
  users = {
    name_of(path)
    for path in FILES
    for node in ast.walk(source.tree(path))
    if getattr(node, 'attr', '') in ('import_module', 'run_module', 'run_path')
    or getattr(node, 'id', '') == '__import__'
    or isinstance(node, ast.alias)
    and node.name in ('import_module', 'run_module', 'run_path')
  }
  assert users == BY_STRING


def test_there_is_no_cycle():
  graph = {path: imported_files(path) for path in FILES}
  done: set[pathlib.Path] = set()

  def visit(path, above):
    assert path not in above, [name_of(p) for p in (*above, path)]
    if path not in done:
      for other in graph[path]:
        visit(other, (*above, path))
      done.add(path)

  for path in FILES:
    visit(path, ())


def test_few_modules_are_directly_under_the_package():
  top = [path for path in FILES if path.parent == ROOT / 'nfnets']
  assert len(top) <= MAX_TOP_MODULES


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_only_programs_read_flags(path):
  allowed = {'absl'} if name_of(path) == FLAGS_OF_GRAIN else set()
  if not may_read_flags(path):
    assert libraries(source.imports(path)) & FLAGS <= allowed


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_nothing_imports_a_program(path):
  assert not [p for p in imported_files(path) if is_runnable(p)]


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_libraries_stay_in_their_folders(path):
  for library in libraries(source.imports(path)) & set(HOMES):
    assert any(
      name_of(path) == home or name_of(path).startswith(f'{home}/')
      for home in HOMES[library]
    ), library


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_peers_are_imported_only_by_benchmarks(path):
  if area(path) != 'benchmark':
    assert not libraries(source.imports(path)) & PEERS
  assert not libraries(source.imports(path, at_import=True)) & PEERS


def test_data_does_not_import_jax():
  waiting = [path for path in FILES if area(path) == 'data']
  reached = set(waiting)
  while waiting:
    path = waiting.pop()
    assert not libraries(source.imports(path)) & ARRAYS, name_of(path)
    further = imported_files(path) - reached
    reached |= further
    waiting += further


def test_only_the_step_maps_over_devices():
  users = {
    name_of(path)
    for path in FILES
    for node in ast.walk(source.tree(path))
    if getattr(node, 'attr', '') == 'pmap'
    or isinstance(node, ast.alias)
    and node.name == 'pmap'
  }
  assert users == {'training/step.py'}


def test_barriers_are_in_xla_and_convolutions():
  users = {
    name_of(path)
    for path in FILES
    if 'optimization_barrier' in path.read_text()
  }
  assert all(
    user == 'xla.py' or user.startswith('layers/convolution/') for user in users
  )


def test_nothing_imports_experiments_or_tests():
  for path in FILES:
    outside = libraries(source.imports(path)) & {'experiments', 'tests'}
    assert not outside, name_of(path)


@pytest.mark.parametrize('path', filter(is_runnable, FILES), ids=name_of)
def test_help_is_printed_before_jax_is_loaded(path):
  module = module_of(path).removesuffix('.__main__')
  program = (
    'import runpy, sys; sys.argv = ["program", "--help"]\n'
    f'try: runpy.run_module({module!r}, run_name="__main__")\n'
    'except SystemExit as end: print(end.code)\n'
    'print([m for m in ("jax", "tensorflow_datasets") if m in sys.modules])'
  )
  run = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True
  )
  assert run.stdout.startswith('usage: ')
  assert run.stdout.endswith('\n0\n[]\n'), run.stdout + run.stderr


def test_the_root_loads_on_first_use():
  program = (
    'import nfnets, sys; before = "jax" in sys.modules;'
    'nfnets.list_models(); nfnets.create_model, nfnets.load;'
    'nfnets.adaptive_grad_clip; print(before, "jax" in sys.modules)'
  )
  run = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True
  )
  assert run.stdout == 'False True\n', run.stdout + run.stderr
