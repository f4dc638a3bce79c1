"""Who imports whom, read from the source: DESIGN's rules, held."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted((ROOT / 'nfnets').rglob('*.py'))

# Area of the package -> areas that it may import, besides itself and COMMON.
# Every other module is an entry point or shared by entry points: it may import
# anything and nothing listed here may import it.
COMMON = {'errors', 'machine'}
AREAS: dict[str, set[str]] = {
  'errors': set(),
  'machine': set(),
  'layers': set(),
  'models': {'layers'},
  'losses': set(),
  'optim': set(),
  'augment': set(),
  'data': set(),
  'training': {'models', 'losses', 'optim', 'augment'},
  'weights': {'models', 'layers'},
  'analysis': {'models', 'layers'},
}

# Library -> the only places that may import it.
HOMES: dict[str, tuple[str, ...]] = {
  'array_record': ('data',),
  'cv2': ('data',),
  'grain': ('data',),
  'haiku': ('layers', 'models'),
  'orbax': ('training/checkpoint.py',),
  'sklearn': ('data',),
  'tensorflow_datasets': ('data',),
}
SETTINGS = {'absl', 'argparse', 'ml_collections'}
ARRAYS = {'chex', 'haiku', 'jax', 'optax'}
PEERS = {'PIL', 'tensorflow', 'timm', 'torch', 'torchvision'}


def area(path: pathlib.Path) -> str:
  """The part of the package that a file belongs to; '' for entry points."""
  parts = path.relative_to(ROOT / 'nfnets').parts
  name = parts[0].removesuffix('.py')
  return name if name in AREAS and parts[-1] != '__main__.py' else ''


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
  """Areas (or modules of entry points) of this package among `names`."""
  return {name.split('.')[1] for name in names if name.startswith('nfnets.')}


def libraries(names: set[str]) -> set[str]:
  return {name.split('.')[0] for name in names}


def name_of(path: pathlib.Path) -> str:
  return str(path.relative_to(ROOT / 'nfnets'))


LIBRARY_FILES = [path for path in FILES if area(path)]


@pytest.mark.parametrize('path', LIBRARY_FILES, ids=name_of)
def test_areas_import_only_what_is_below_them(path):
  allowed = AREAS[area(path)] | {area(path)} | COMMON
  assert own(imports(path)) <= allowed


@pytest.mark.parametrize('path', LIBRARY_FILES, ids=name_of)
def test_settings_stop_at_the_entry_points(path):
  # Grain reads absl's flags; marking them as parsed is all that data/ does.
  allowed = {'absl'} if area(path) == 'data' else set()
  assert libraries(imports(path)) & SETTINGS <= allowed


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_libraries_stay_in_their_place(path):
  place = name_of(path)
  for library in libraries(imports(path)) & set(HOMES):
    assert place.startswith(HOMES[library]), library


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_peers_are_imported_only_where_they_are_measured(path):
  if 'benchmark' not in name_of(path):
    assert not libraries(imports(path)) & PEERS
  assert not libraries(imports(path, top_only=True)) & PEERS


def test_data_knows_no_jax():
  for path in LIBRARY_FILES:
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


def test_nothing_imports_an_experiment():
  for path in FILES:
    assert 'experiments' not in libraries(imports(path)), name_of(path)


# Those whose package does not load JAX anyway.
ENTRY_POINTS = [
  path
  for path in FILES
  if 'cli.run(main)' in path.read_text()
  and not own(imports(path.with_name('__init__.py')))
]


@pytest.mark.parametrize('path', ENTRY_POINTS, ids=name_of)
def test_entry_points_answer_before_jax_is_loaded(path):
  module = name_of(path).removesuffix('.py').replace('/', '.')
  program = (
    f'import nfnets.{module}, sys;'
    "print([m for m in ('jax', 'tensorflow_datasets') if m in sys.modules])"
  )
  run = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True
  )
  assert run.stdout == '[]\n', run.stdout + run.stderr
