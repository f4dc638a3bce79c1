"""Studies whose runs take no time: resumed, diverged, interrupted."""

import gc
import math
import re

import jax
import pytest

from nfnets import errors
from nfnets.runtime import compilation, platforms
from nfnets.studies import results, runner

RUNS = [
  results.Run({'batch': 64, 'seed': seed}, {'seed': seed}) for seed in range(3)
]


@pytest.fixture(autouse=True)
def fast(monkeypatch):
  for owner, name in (
    (compilation, 'prepare'),
    (platforms, 'check'),
    (jax, 'clear_caches'),
    (gc, 'collect'),
  ):
    monkeypatch.setattr(owner, name, lambda: None)


class Program:
  """Performs runs as told, and records them."""

  def __init__(self, outcomes=()):
    self.outcomes = dict(outcomes)
    self.performed = []
    self.drawn = []

  def perform(self, run, folder, start):
    self.performed.append((run.labels['seed'], folder.name, start))
    outcome = self.outcomes.get(run.labels['seed'], {'top1': 0.5})
    if isinstance(outcome, BaseException):
      raise outcome
    return outcome

  def draw(self, found, folder):
    self.drawn.append(len(found))

  def run(self, out, runs=RUNS):
    return runner.study(runs, out, self.perform, self.describe, self.draw)

  def describe(self, found):
    return f'table of {[x.numbers for x in found]}'


def seeds(program):
  return [seed for seed, *_ in program.performed]


def test_finished_runs_are_not_repeated(tmp_path, capsys):
  first = Program({2: KeyboardInterrupt()})
  with pytest.raises(KeyboardInterrupt):
    first.run(tmp_path)
  assert seeds(first) == [0, 1, 2] and first.drawn == [1, 2]
  second = Program()
  assert second.run(tmp_path) == 0
  assert seeds(second) == [2] and second.drawn == [3, 3]
  third = Program()
  assert third.run(tmp_path) == 0
  assert seeds(third) == []
  out, err = capsys.readouterr()
  assert (
    out.count("table of [{'top1': 0.5}, {'top1': 0.5}, {'top1': 0.5}]") == 2
  )
  assert re.search('run 3/3: batch 64, seed 2, about 0:00:0. left\n', err)


def test_more_seeds_continue_a_study(tmp_path):
  Program().run(tmp_path, RUNS[:1])
  more = Program()
  more.run(tmp_path)
  assert seeds(more) == [1, 2]


def test_every_run_is_checked_before_the_first(tmp_path):
  program = Program()

  def check(run):
    if run.labels['seed'] == 2:
      raise errors.UserError('the last one is wrong')

  with pytest.raises(errors.UserError, match='the last one'):
    runner.study(
      RUNS, tmp_path, program.perform, program.describe, program.draw, check
    )
  assert not program.performed


@pytest.mark.parametrize(
  'outcome, numbers',
  [
    ({'top1': 0.1, 'loss': math.nan}, {'top1': 0.1}),
    (runner.Diverged({'step': 7.0}), {'step': 7.0}),
  ],
)
def test_numbers_that_are_not_finite_are_a_result(tmp_path, outcome, numbers):
  program = Program({1: outcome})
  assert program.run(tmp_path) == 0
  assert seeds(program) == [0, 1, 2]
  found = results.read(tmp_path / results.FILE)[RUNS[1].name]
  assert found.diverged and dict(found.numbers) == numbers
  again = Program()
  again.run(tmp_path)
  assert not again.performed


def test_a_signal_ends_the_study_with_its_status(tmp_path, capsys):
  program = Program({1: runner.Interrupted(143)})
  assert program.run(tmp_path) == 143
  assert 'rerun the command' in capsys.readouterr().err
  assert list(results.read(tmp_path / results.FILE)) == [RUNS[0].name]


def test_a_run_starts_from_another(tmp_path):
  first = RUNS[0]._replace(keep=True)
  second = RUNS[1]._replace(start=first.name)
  program = Program()
  program.run(tmp_path, [first, second])
  assert program.performed[1][2] == tmp_path / 'runs' / first.name


def test_a_run_does_not_start_from_one_that_diverged(tmp_path):
  second = RUNS[1]._replace(start=RUNS[0].name)
  program = Program({0: runner.Diverged({})})
  assert program.run(tmp_path, [RUNS[0], second]) == 0
  assert seeds(program) == [0]
  assert results.read(tmp_path / results.FILE)[second.name].diverged


def test_other_settings_are_refused_before_any_run(tmp_path):
  Program().run(tmp_path, RUNS[:1])
  other = RUNS[0]._replace(settings={'seed': 0, 'train.epochs': 9.0})
  program = Program()
  with pytest.raises(errors.UserError, match='train.epochs: 360.0 -> 9.0'):
    program.run(tmp_path, [other])
  assert not program.performed


def test_a_wrong_setting_is_found_before_the_first_run(tmp_path):
  wrong = RUNS[2]._replace(settings={'train.batch_size': 0})
  program = Program()
  with pytest.raises(errors.UserError, match='config.train.batch_size is 0'):
    program.run(tmp_path / 'x', [*RUNS[:2], wrong])
  assert not program.performed and not (tmp_path / 'x').exists()


def test_two_studies_do_not_share_a_folder(tmp_path):
  def nested(found, folder):
    Program().run(tmp_path)

  program = Program()
  program.draw = nested
  with pytest.raises(errors.UserError, match='in use by another.*--out'):
    program.run(tmp_path)


def test_checkpoints_of_finished_runs_are_removed(tmp_path):
  class Saving(Program):
    def perform(self, run, folder, start):
      (folder / 'checkpoints' / '4').mkdir(parents=True)
      (folder / 'metrics.jsonl').write_text('')
      return super().perform(run, folder, start)

  Saving().run(tmp_path, RUNS[:1])
  kept = [x.name for x in (tmp_path / 'runs' / RUNS[0].name).iterdir()]
  assert kept == ['metrics.jsonl']
