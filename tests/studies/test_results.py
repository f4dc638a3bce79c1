"""The file of results: complete at every moment, compared, damaged."""

import json

import pytest

from nfnets import errors
from nfnets.studies import results
from tests.studies import made

RUN = results.Run({'batch': 64, 'seed': 0}, {'train.batch_size': 64})


def write(path, **changes):
  line = {
    'run': RUN.name,
    'labels': {'batch': 64, 'seed': 0},
    'outcome': 'finished',
    'numbers': {'top1': 0.5},
    'seconds': 1.0,
    'settings': {'train.batch_size': 64},
  }
  path.write_text(json.dumps({**line, **changes}) + '\n')


def test_names_are_safe_paths():
  run = results.Run({'method': 'no [clip]/x', 'rate': 0.1, 'seed': 1}, {})
  assert run.name == 'method_no_clip_x-rate_0.1-seed_1'


def test_what_is_appended_is_read(tmp_path):
  path = tmp_path / results.FILE
  assert results.read(path) == {}
  first = made.result({'batch': 64}, 0.25)
  second = made.result({'batch': 128}, diverged=True)
  results.append(path, 'a', first)
  before = path.read_bytes()
  results.append(path, 'b', second)
  assert path.read_bytes().startswith(before)
  assert results.read(path) == {'a': first, 'b': second}
  assert [x.name for x in tmp_path.iterdir()] == [results.FILE]


def test_a_failed_append_leaves_the_file(tmp_path, monkeypatch):
  path = tmp_path / results.FILE
  results.append(path, 'a', made.result({}))
  before = path.read_bytes()

  def full(*args):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(results.os, 'fsync', full)
  with pytest.raises(errors.UserError, match='No space left on device'):
    results.append(path, 'b', made.result({}))
  assert path.read_bytes() == before


@pytest.mark.parametrize(
  'changes, reason',
  [
    ({'outcome': 'maybe'}, "KeyError: 'maybe'"),
    ({'numbers': {'top1': 'x'}}, 'ValueError'),
    ({'numbers': [1]}, 'AttributeError'),
    ({'labels': {'batch': None}}, 'the labels are'),
    ({'numbers': {'top1': 1e999}}, 'the numbers are'),
    ({'seconds': None}, 'TypeError'),
    ({'seconds': 1e12}, r'it took 1e\+12 seconds'),
  ],
)
def test_a_damaged_line_is_one_error(tmp_path, changes, reason):
  path = tmp_path / results.FILE
  write(path, **changes)
  with pytest.raises(errors.UserError, match=f'line 1: .*{reason}') as caught:
    results.read(path)
  assert 'remove the line' in str(caught.value)


def test_text_is_one_error(tmp_path):
  path = tmp_path / results.FILE
  path.write_text('{"run": ')
  with pytest.raises(errors.UserError, match='line 1'):
    results.read(path)


def test_other_settings_are_refused(tmp_path):
  path = tmp_path / results.FILE
  write(path)
  results.check_same([RUN], results.read(path), path)
  other = RUN._replace(settings={'train.batch_size': 64, 'train.steps': 9})
  with pytest.raises(errors.UserError, match='train.steps: 0 -> 9.*--out'):
    results.check_same([other], results.read(path), path)


def test_other_labels_are_refused(tmp_path):
  path = tmp_path / results.FILE
  write(path, labels={'batch': 128, 'seed': 0})
  with pytest.raises(errors.UserError, match='"batch": 128.*remove its line'):
    results.check_same([RUN], results.read(path), path)


def test_settings_that_do_not_matter_may_differ(tmp_path):
  path = tmp_path / results.FILE
  write(path)
  other = RUN._replace(settings={'train.batch_size': 64, 'data.num_threads': 3})
  results.check_same([other], results.read(path), path)


def test_settings_at_their_defaults_are_not_stored():
  settings = {'train.batch_size': 64, 'model.depth': (1, 2), 'seed': 0}
  found = results.changed_settings(results.Run({}, settings))
  assert found == {'train.batch_size': 64, 'model.depth': [1, 2]}


def test_results_are_selected_by_their_labels():
  found = [
    made.result({'batch': batch, 'seed': seed})
    for batch in (64, 128)
    for seed in (0, 1)
  ]
  assert results.select(found, batch=128) == found[2:]
  assert results.select(found, batch=64, seed=1) == [found[1]]
  assert results.select(found, rate=0.1) == []
