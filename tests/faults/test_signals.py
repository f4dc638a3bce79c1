"""Signals, closed pipes and full disks under the reports."""

import signal

import pytest

from tests.faults import runs
from tests.training import disks

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
  'moment, number',
  [
    ('step:{}:6', signal.SIGTERM),
    ('step:{}:6', signal.SIGINT),
    ('step:{}:6', signal.SIGHUP),
    ('eval:{}', signal.SIGTERM),
    ('save:{}:8', signal.SIGTERM),
  ],
)
def test_a_signal(whole, tmp_path, moment, number):
  fault = f'signal-{moment.format(int(number))}'
  end = runs.broken(fault, *runs.OPTIONS, f'--workdir={tmp_path}')
  assert end.status == 128 + number, end
  assert 'Traceback' not in end.err
  assert 'rerun the command to resume' in end.out
  assert runs.checkpoints(tmp_path)
  runs.succeed(runs.run(*runs.TRAIN, f'--workdir={tmp_path}'))
  runs.assert_same_run(tmp_path, whole)


def test_a_signal_before_the_first_step(whole, tmp_path):
  process = runs.start(*runs.TRAIN, f'--workdir={tmp_path}')
  while 'train step' not in process.stdout.readline():
    assert process.poll() is None
  process.send_signal(signal.SIGTERM)
  end = runs.finish(process)
  assert end.status in (143, -signal.SIGTERM), end
  assert 'Traceback' not in end.err
  runs.succeed(runs.run(*runs.TRAIN, f'--workdir={tmp_path}'))
  runs.assert_same_run(tmp_path, whole)


def test_a_closed_pipe(whole, tmp_path):
  process = runs.start(*runs.TRAIN, f'--workdir={tmp_path}')
  process.stdout.readline()
  process.stdout.close()  # as in `... | head -1`
  _, err = process.stderr.read(), process.stderr.close()
  assert process.wait(300) == 0, err
  runs.assert_same_run(tmp_path, whole)


def test_full_disks_under_all_reports(whole, tmp_path):
  workdir = tmp_path / 'run'
  workdir.mkdir()
  with disks.small(tmp_path / 'disk') as disk:
    (disk / 'tensorboard').mkdir()
    for name in ('metrics.jsonl', 'log'):
      (disk / name).touch()
    for name in ('metrics.jsonl', 'tensorboard'):
      (workdir / name).symlink_to(disk / name)
    disks.fill(disk)
    with open(disk / 'log', 'w') as log:
      end = runs.run(*runs.TRAIN, f'--workdir={workdir}', stdout=log)
  assert end.status == 1  # because output was lost
  assert end.err.count('the run continues without it') == 2, end.err
  assert 'Traceback' not in end.err
  assert runs.state(workdir) == runs.state(whole)
