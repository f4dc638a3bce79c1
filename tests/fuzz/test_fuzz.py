"""Files that were once found, and a few hundred mutated ones.

`python -m tests.fuzz` tries more. Here the readers run in this process, where a
crash would end the tests.
"""

import random
import sys

import pytest

from tests.fuzz import __main__ as program
from tests.fuzz import campaign, judge, mutate, planted, worker

# Reader -> number of mutated inputs, as many as fit into about a second.
QUICK = {
  'images': 150,
  'indexes': 100,
  'metrics': 100,
  'results': 100,
  'weights': 60,
  'snapshots': 60,
  'settings': 15,
}
# They may warn, for example of a value that float32 cannot hold.
pytestmark = pytest.mark.filterwarnings('default')


def findings(name, count, folder):
  reader = worker.load(program.READERS[name])
  seeds = reader.seeds()
  judge.warm_up(reader, seeds[0], folder)
  inputs = {
    label: {**seeds[0], **tree} for label, tree in campaign.corpus(name).items()
  }
  inputs |= {f'intact {key}': tree for key, tree in enumerate(seeds)}
  inputs |= {
    key: worker.make_input(reader, seeds, f'test {key}') for key in range(count)
  }
  outcomes = {
    key: judge.run(reader, tree, folder) for key, tree in inputs.items()
  }
  for key, (kind, _) in outcomes.items():
    if kind == 'finding':  # A machine under load may be slow once.
      outcomes[key] = judge.run(reader, inputs[key], folder)
  assert len({kind for kind, _ in outcomes.values()}) > 1, 'reads and refuses'
  return {
    key: why for key, (kind, why) in outcomes.items() if kind == 'finding'
  }


@pytest.mark.parametrize('name', QUICK)
def test_nothing_is_found(name, tmp_path):
  assert findings(name, QUICK[name], tmp_path / 'input') == {}


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(program.READERS.keys() - QUICK.keys()))
def test_nothing_is_found_in_slow_readers(name, tmp_path):
  counts = campaign.run(name, program.READERS[name], 3, 0, tmp_path)
  assert counts.inputs > len(campaign.corpus(name))
  assert counts.findings == []


def test_every_reader_has_a_corpus():
  folders = {path.name for path in campaign.CORPUS.iterdir()}
  assert folders == program.READERS.keys()


@pytest.mark.parametrize(
  'fault, expected',
  [
    ('recursion', 'RecursionError'),
    ('loop', 'takes more than 0.2 s'),
    ('memory', 'MemoryError'),
    ('refused for memory', 'takes too much memory'),
    ('program', 'executes os.system'),
    ('pickle', 'executes pickle.find_class'),
    ('exit', 'SystemExit'),
  ],
)
def test_planted_faults_are_findings(tmp_path, monkeypatch, fault, expected):
  monkeypatch.setattr(judge, 'SECONDS', 0.2)
  tree = {'file': b'fault: ' + fault.encode()}
  kind, why = judge.run(planted.READER, tree, tmp_path / 'input')
  assert kind == 'finding' and expected in why


def test_intact_and_refused_inputs_are_not(tmp_path):
  for data, expected in ((planted.MAGIC, 'read'), (b'', 'refused')):
    tree = {'file': data}
    assert judge.run(planted.READER, tree, tmp_path / 'x')[0] == expected


def test_the_program_finds_a_planted_fault_and_stores_it(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(
    program, 'READERS', {'planted': 'tests.fuzz.planted:READER'}
  )
  monkeypatch.setattr(campaign, 'CORPUS', tmp_path)
  monkeypatch.setattr(sys, 'argv', ['fuzz', '--minutes=0.004', '--seed=1'])
  monkeypatch.setattr(program.tempfile, 'tempdir', str(tmp_path))
  assert program.main() == 1
  text = capsys.readouterr().out
  assert 'seed 1\n' in text and 'IndexError: planted' in text
  stored = sorted(tmp_path.glob('nfnets-fuzz-*/planted-*/file'))
  assert stored
  for path in stored:
    with pytest.raises(IndexError):
      planted.READER.read(path.parent)


@pytest.mark.slow
@pytest.mark.parametrize(
  'fault, expected',
  [
    ('crash', 'crashes with status -11'),
    ('hang', 'hangs for 8 s'),
    ('printed traceback', 'prints a traceback'),
  ],
)
def test_faults_of_a_process_are_findings(fault, expected):
  process = campaign.Process('tests.fuzz.planted:READER', 0)
  try:
    tree = {'file': b'fault: ' + fault.encode()}
    kind, why = process.run(tree)
    assert kind == 'finding' and expected in why
    assert process.last_input() == tree
    # The next input is read again.
    assert process.run({'file': planted.MAGIC}) == ('read', '')
  finally:
    process.close()


def test_a_seed_determines_every_input():
  reader = worker.load(program.READERS['images'])
  seeds = reader.seeds()
  first, again, other = (
    [worker.make_input(reader, seeds, f'{seed} {n}') for n in range(20)]
    for seed in (1, 1, 2)
  )
  assert first == again != other


def test_only_the_chosen_files_change():
  tree = {'a': b'{"x": 1}', 'b': b'abc'}
  rng = random.Random(0)
  found = [mutate.mutated(tree, ['a'], rng) for _ in range(50)]
  assert all(changed['b'] == b'abc' for changed in found)
  assert len({changed['a'] for changed in found}) > 20


def test_checksums_fit_again():
  reader = worker.load(program.READERS['images'])
  png = next(s['image'] for s in reader.seeds() if s['image'][1:4] == b'PNG')
  damaged = png[:29] + bytes(4) + png[33:]
  assert damaged != png and mutate.restamped(damaged) == png
  assert mutate.restamped(b'abc') == b'abc'


def test_a_finding_is_summarized_in_its_last_line():
  assert campaign.summary('Traceback\n  File\nKeyError: 1\n') == 'KeyError: 1'
  assert campaign.summary('hangs') == 'hangs'


def test_folders_are_read_with_their_files(tmp_path):
  (tmp_path / 'a' / 'b').mkdir(parents=True)
  (tmp_path / 'a' / 'b' / 'c').write_bytes(b'x')
  assert campaign.read_tree(tmp_path) == {'a/b/c': b'x'}
