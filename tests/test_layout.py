"""The tests mirror the package file by file."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# Source file without a test file of its own -> the test that covers it.
COVERED_BY = {
  'augment/__main__.py': (
    'test_imports.py::test_help_is_printed_before_jax_is_loaded'
  ),
  'augment/edits.py': 'augment/test_ops.py',
  'benchmark/__main__.py': 'benchmark/test_report.py',
  'benchmark/input_peers.py': 'benchmark/test_input.py',
  'benchmark/programs.py': 'benchmark/test_report.py',
  'benchmark/timm_peer.py': 'benchmark/test_report.py',
  'data/digits/digits_dataset_builder.py': 'data/digits/test_digits.py',
  'data/digits/preparation.py': 'data/digits/test_digits.py',
  'data/source.py': 'data/test_folder_source.py',
  'data/sources.py': 'data/test_prepared.py',
  'errors.py': 'test_cli.py',
  'experiment/command_line.py': 'test_cli.py',
  'experiment/evaluate.py': (
    'experiment/test_main.py::test_evaluation_of_a_checkpoint'
  ),
  'experiment/recipes.py': 'experiment/test_config.py::test_published_lengths',
  'experiment/train.py': 'experiment/test_main.py',
  'inference.py': 'test_predict.py',
  'layers/convolution/cpu.py': 'layers/convolution/test_dispatch.py',
  'layers/convolution/standardization.py': 'layers/test_ws_conv.py',
  'layers/plain_conv.py': 'models/test_folding.py',
  'models/catalogue.py': 'models/test_main.py',
  'models/config.py': 'models/test_registry.py',
  'training/checkpoint_files.py': 'training/test_checkpoint.py',
  'training/interruption.py': 'training/test_loop.py',
  'weights/agreement.py': 'weights/test_loading.py',
  'weights/class_names.py': 'weights/test_loading.py',
  'weights/deepmind.py': 'weights/test_loading.py::test_pickles_of_haiku',
  'weights/hub.py': 'weights/test_loading.py::test_directory_and_hub',
  'weights/metadata.py': 'weights/test_loading.py',
  'weights/pickle_types.py': 'weights/test_safe_pickle.py',
  'weights/saving.py': 'weights/test_loading.py',
  'weights/sources.py': 'weights/test_loading.py',
  'weights/timm_names.py': 'weights/test_timm.py::test_names_both_ways',
  'weights/tree.py': 'weights/test_loading.py',
  'xla.py': 'optim/test_agc.py',
}

# Test file that mirrors no source file -> what it tests instead.
OTHERS = {
  'data/digits/test_digits.py': 'the digits, from preparation to reading',
  'models/test_timm_parity.py': "networks against timm's",
  'optim/test_three_steps.py': "optimizer steps against the reference's",
  'test_docs.py': 'commands and snippets of README and docs',
  'test_experiments.py': 'experiments/',
  'test_imports.py': 'who imports whom',
  'test_layout.py': 'the names of test files',
  'test_run_sh.py': 'run.sh',
  'test_style.py': 'style of the source and the prose',
  'training/test_f0.py': 'train steps of F0 itself',
  'training/test_kill.py': 'runs that are killed and resumed',
}


def mirror(source: str) -> str:
  """Returns the test file for a source file, both relative to their roots."""
  folder, _, name = source.rpartition('/')
  name = 'main.py' if name == '__main__.py' else name
  return f'{folder}/test_{name}' if folder else f'test_{name}'


def relative(folder: str, pattern: str) -> list[str]:
  """Returns sorted paths below a folder of the repository."""
  root = ROOT / folder
  return sorted(str(p.relative_to(root)) for p in root.rglob(pattern))


SOURCES = [
  path
  for path in relative('nfnets', '*.py')
  if not path.endswith('__init__.py')
]
TESTS = relative('tests', 'test_*.py')


def test_mirror_of_a_name():
  assert mirror('losses.py') == 'test_losses.py'
  assert mirror('optim/agc.py') == 'optim/test_agc.py'
  assert mirror('data/__main__.py') == 'data/test_main.py'


@pytest.mark.parametrize('source', SOURCES)
def test_source_file_has_a_test_file(source):
  has_its_own = mirror(source) in TESTS
  if has_its_own:
    assert source not in COVERED_BY, 'has a test file: delete the entry'
  else:
    assert source in COVERED_BY, f'neither tests/{mirror(source)} nor an entry'


def test_entries_are_source_files():
  assert not COVERED_BY.keys() - set(SOURCES)


@pytest.mark.parametrize('target', sorted(set(COVERED_BY.values())))
def test_entry_points_to_a_test(target):
  file, _, function = target.partition('::')
  assert file in TESTS
  source = (ROOT / 'tests' / file).read_text()
  if function:
    assert re.search(rf'^def {function}\(', source, re.MULTILINE)


def test_every_test_file_mirrors_a_source_file_or_is_explained():
  mirrored = {mirror(source) for source in SOURCES}
  assert set(TESTS) - mirrored == OTHERS.keys()


def test_tests_have_their_prefix():
  # A test in a file of another name would never run.
  stray = [
    path
    for path in relative('tests', '*.py')
    if path not in TESTS
    and re.search(
      r'^def test_', (ROOT / 'tests' / path).read_text(), re.MULTILINE
    )
  ]
  assert not stray
