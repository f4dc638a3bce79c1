"""The tests mirror the package file by file."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent

# Source file without a test file of its own -> the test that covers it.
COVERED_BY = {
  'augment/__main__.py': (
    'test_imports.py::test_help_is_printed_before_jax_is_loaded'
  ),
  'export/description.py': 'test_convert.py::test_program',
  'export/onnx_layers.py': 'export/test_onnx_graph.py::test_logits',
  'export/onnx_nodes.py': 'export/test_onnx_graph.py::test_activations',
  'export/stablehlo.py': 'test_convert.py::test_program',
  'export/targets.py': 'test_convert.py::test_layouts_keep_every_bit',
  'models/types.py': 'test_style.py::test_mypy',
  'studies/agc_figure.py': (
    'studies/test_agc.py::test_the_panels_show_the_numbers'
  ),
  'studies/halves.py': 'studies/test_finetune.py::test_digits_are_divided',
  'studies/signals.py': 'studies/test_signal_propagation.py::test_plain',
  'studies/small.py': 'studies/test_agc.py::test_every_run_sees',
}

# Test file that mirrors no source file -> what it tests instead.
OTHERS = {
  'experiment/test_controls.py': 'runs with growing images, early stopping',
  'experiment/test_finetuning.py': 'fine-tuning runs, resumed',
  'experiment/test_processes.py': 'runs of several processes',
  'export/test_journey.py': 'docs/pictures.md from start to end',
  'fuzz/test_fuzz.py': 'python -m tests.fuzz',
  'models/test_gradient_costs.py': 'what gradients keep and how they sum',
  'models/test_timm_parity.py': "networks against timm's",
  'optim/test_agc_in_optax.py': 'AGC inside optax',
  'optim/test_moments.py': 'AdamW, LAMB and layer-wise decay',
  'optim/test_three_steps.py': "optimizer steps against the reference's",
  'test_docs.py': 'commands and snippets of README and docs',
  'test_experiments.py': 'experiments/',
  'test_imports.py': 'who imports whom',
  'test_launch.py': 'launch/ and the Dockerfile',
  'test_layout.py': 'the names of test files',
  'test_paths.py': 'every path that a user gives',
  'test_quickstart.py': 'docs/quickstart.ipynb',
  'test_run_sh.py': 'run.sh',
  'test_style.py': 'style of the source and the prose',
  'training/test_class_weights.py': 'training on a weighted loss',
  'training/test_f0.py': 'train steps of F0 itself',
  'training/test_kill.py': 'runs that are killed and resumed',
  'training/test_old_checkpoint.py': 'a checkpoint of an earlier version',
  'training/test_optimizers.py': 'resuming with every optimizer',
  'training/test_skipping.py': 'runs that skip steps that are not finite',
  'weights/test_dill.py': 'files that dill wrote',
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


def test_every_source_file_has_a_test_file_or_an_entry():
  missing = [
    source
    for source in SOURCES
    if mirror(source) not in TESTS and source not in COVERED_BY
  ]
  assert not missing, '\n'.join(missing)


def test_entries_are_source_files_without_a_test_file():
  stale = [
    source
    for source in COVERED_BY
    if mirror(source) in TESTS or source not in SOURCES
  ]
  assert not stale, '\n'.join(stale)


def test_entries_point_to_tests():
  dangling = []
  for target in COVERED_BY.values():
    file, _, function = target.partition('::')
    path = ROOT / 'tests' / file
    text = path.read_text() if file in TESTS else ''
    if not re.search(rf'^def {function or "test_"}', text, re.MULTILINE):
      dangling.append(target)
  assert not dangling, '\n'.join(dangling)


def test_every_test_file_mirrors_a_source_file_or_is_explained():
  mirrored = {mirror(source) for source in SOURCES}
  # tests/faults mirrors docs/reliability.md instead (faults/test_table.py).
  named = {path for path in TESTS if not path.startswith('faults/')}
  differing = (named - mirrored) ^ OTHERS.keys()
  assert not differing, '\n'.join(sorted(differing))


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
