"""Who imports whom, read from the source: no circle, none upward."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted((ROOT / 'nfnets').rglob('*.py'))
MAX_TOP_MODULES = 9

# Areas of the package from the bottom to the top -> areas that each may import
# besides itself. An area stands above all that it may import.
FOUNDATION = {'errors', 'files', 'xla'}
AREAS: dict[str, set[str]] = {
  'errors': set(),
  'files': set(),
  'xla': set(),
  'runtime': {'errors', 'files'},
  'cli': {'errors', 'runtime'},
  'losses': set(),
  'layers': FOUNDATION | {'runtime'},
  'optim': FOUNDATION,
  'augment': FOUNDATION,
  'data': FOUNDATION | {'runtime'},
  'models': FOUNDATION | {'layers'},
}
AREAS['training'] = AREAS['models'] | {'models', 'losses', 'optim', 'augment'}
AREAS['weights'] = AREAS['models'] | {'models'}
AREAS['analysis'] = AREAS['models'] | {'models'}
AREAS['inference'] = AREAS['weights'] | {'data', 'augment', 'weights'}
_LIBRARY = {'runtime', 'cli', *AREAS['training'], 'training', 'data'}
AREAS['experiment'] = _LIBRARY | {'weights', 'analysis'}
AREAS['benchmark'] = _LIBRARY | {'analysis'}
AREAS['predict'] = {'cli', 'runtime', 'inference', *AREAS['inference']}
AREAS['convert'] = AREAS['predict'] | _LIBRARY
AREAS['ablation'] = _LIBRARY | {'experiment'}
# The root: it names what others define, and nothing imports it.
AREAS['__init__'] = set()

# Programs: they read command lines, and nothing imports them.
COMMANDS = {'predict', 'convert'}

# Library -> the only places that may import it.
HOMES: dict[str, tuple[str, ...]] = {
  'array_record': ('data',),
  'cv2': ('data', 'benchmark/input'),
  'grain': ('data',),
  'haiku': ('layers', 'models'),
  'ml_collections': ('experiment',),
  'orbax': ('training/checkpoint',),
  'sklearn': ('data',),
  'tensorflow_datasets': ('data',),
}
FLAGS = {'absl', 'argparse'}
ARRAYS = {'chex', 'haiku', 'jax', 'optax'}
PEERS = {'PIL', 'tensorflow', 'timm', 'torch', 'torchvision'}


def name_of(path: pathlib.Path) -> str:
  return str(path.relative_to(ROOT / 'nfnets'))


def area(path: pathlib.Path) -> str:
  """The part of the package that a file belongs to."""
  return path.relative_to(ROOT / 'nfnets').parts[0].removesuffix('.py')


def is_program(path: pathlib.Path) -> bool:
  """Whether a file reads a command line."""
  return path.name == '__main__.py' or name_of(path) in {
    *(f'{name}.py' for name in COMMANDS),
    'experiment/preview.py',
    'experiment/command_line.py',
  }


def imports(path: pathlib.Path, top_only: bool = False) -> set[str]:
  """Full names of the modules (or their members) that a file imports."""
  module = ast.parse(path.read_text())
  names = set()
  for node in module.body if top_only else ast.walk(module):
    if isinstance(node, ast.Import):
      names.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import, line {node.lineno}'
      names.update(f'{node.module}.{alias.name}' for alias in node.names)
  return names


def own(names: set[str]) -> set[str]:
  """Areas of this package among `names`."""
  return {name.split('.')[1] for name in names if name.startswith('nfnets.')}


def libraries(names: set[str]) -> set[str]:
  return {name.split('.')[0] for name in names}


def module_files(names: set[str]) -> set[pathlib.Path]:
  """Files of this package that importing `names` reads, but for its root."""
  found = set()
  for name in names:
    parts = name.split('.')[1:] if name.startswith('nfnets.') else []
    for end in range(1, len(parts) + 1):
      place = ROOT / 'nfnets' / '/'.join(parts[:end])
      found |= {place / '__init__.py', place.with_suffix('.py')}
  return {path for path in found if path.exists()}


def test_every_file_has_an_area():
  assert {area(path) for path in FILES} == set(AREAS)


def test_areas_stand_above_what_they_may_import():
  below: set[str] = set()
  for name, allowed in AREAS.items():
    assert allowed <= below, name
    below.add(name)


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_areas_import_only_what_is_below_them(path):
  allowed = AREAS[area(path)] | {area(path)}
  if path.name == '__main__.py':
    allowed = allowed | {'cli', 'runtime'}
  assert own(imports(path)) <= allowed


def test_there_is_no_circle():
  # A package stands for its __init__: what imports `a.b` has read `a` first,
  # except for the modules of `a` itself.
  graph = {
    path: {
      other
      for other in module_files(imports(path))
      if other != path
      and not (other.name == '__init__.py' and other.parent in path.parents)
    }
    for path in FILES
  }
  done: set[pathlib.Path] = set()

  def visit(path, above):
    assert path not in above, [name_of(p) for p in (*above, path)]
    if path not in done:
      for other in graph[path]:
        visit(other, (*above, path))
      done.add(path)

  for path in FILES:
    visit(path, ())


def test_few_modules_stand_at_the_top():
  top = [path for path in FILES if path.parent == ROOT / 'nfnets']
  assert len(top) <= MAX_TOP_MODULES


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_only_programs_read_flags(path):
  # Grain reads absl's flags; marking them as parsed is all that data/ does.
  allowed = {'absl'} if area(path) == 'data' else set()
  if not is_program(path):
    assert libraries(imports(path)) & FLAGS <= allowed


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_nothing_imports_a_program(path):
  assert not [p for p in module_files(imports(path)) if p.name == '__main__.py']
  assert own(imports(path)) & COMMANDS <= {area(path)}


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_libraries_stay_in_their_place(path):
  place = name_of(path)
  for library in libraries(imports(path)) & set(HOMES):
    assert place.startswith(HOMES[library]), library


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_peers_are_imported_only_where_they_are_measured(path):
  if area(path) != 'benchmark':
    assert not libraries(imports(path)) & PEERS
  assert not libraries(imports(path, top_only=True)) & PEERS


def test_data_knows_no_jax():
  for path in FILES:
    if area(path) == 'data':
      assert not libraries(imports(path)) & ARRAYS, name_of(path)


def test_only_the_step_maps_over_devices():
  users = {
    name_of(path)
    for path in FILES
    if any(
      isinstance(node, ast.Attribute) and node.attr == 'pmap'
      for node in ast.walk(ast.parse(path.read_text()))
    )
  }
  assert users == {'training/step.py'}


def test_barriers_stand_in_the_kernel_room_and_under_names():
  users = {
    name_of(path)
    for path in FILES
    if 'optimization_barrier' in path.read_text()
  }
  assert all(
    user == 'xla.py' or user.startswith('layers/convolution/') for user in users
  )


def test_nothing_imports_an_experiment():
  for path in FILES:
    assert 'experiments' not in libraries(imports(path)), name_of(path)


# Those whose package does not load JAX anyway.
ENTRY_POINTS = [
  path
  for path in FILES
  if is_program(path) and not own(imports(path.with_name('__init__.py')))
]


@pytest.mark.parametrize('path', ENTRY_POINTS, ids=name_of)
def test_programs_answer_before_jax_is_loaded(path):
  module = name_of(path).removesuffix('.py').replace('/', '.')
  program = (
    f'import nfnets.{module}, sys;'
    "print([m for m in ('jax', 'tensorflow_datasets') if m in sys.modules])"
  )
  run = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True
  )
  assert run.stdout == '[]\n', run.stdout + run.stderr


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
