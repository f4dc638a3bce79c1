"""Faults of runs that consist of several processes."""

import signal

import pytest

from tests.faults import runs

pytestmark = pytest.mark.slow


def test_two_processes_end_together(tmp_path):
  processes = runs.start_several(tmp_path, (), ())
  ends = [runs.finish(process) for process in processes]
  for end in ends:
    runs.succeed(end)
    assert 'Traceback' not in end.err
  assert runs.checkpoints(tmp_path) == [4, 8, 12]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_of_two(tmp_path, number):
  more = '--config.train.steps=5000'
  processes = runs.start_several(tmp_path, (more,), (more,))
  checkpoint = tmp_path / 'checkpoints' / '4'
  runs.wait_for(checkpoint.exists, processes[0])
  processes[1].send_signal(number)
  ends = [runs.finish(process) for process in processes]
  assert [e.status for e in ends] == [143, 128 + number], ends
  stopped = runs.checkpoints(tmp_path)[-1]
  assert f'stopped at step {stopped}:' in ends[0].out
  assert all('Traceback' not in e.err for e in ends)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize('victim', [0, 1])
def test_one_of_two_dies_or_hangs(tmp_path, victim, number):
  more = '--config.train.steps=5000'
  processes = runs.start_several(tmp_path, (more,), (more,))
  checkpoint = tmp_path / 'checkpoints' / '4'
  runs.wait_for(checkpoint.exists, processes[0])
  processes[victim].send_signal(number)
  end = runs.finish(processes[1 - victim], timeout=120)
  # JAX may abort before the collective fails, if process 0 is lost or its
  # heartbeat tells that the other one hangs.
  if victim == 0 or number == signal.SIGSTOP:
    assert end.status in (1, -signal.SIGABRT), end
  else:
    runs.assert_one_line(end, 'process 1 was lost', 'rerun the command')
  assert runs.checkpoints(tmp_path)


def test_processes_with_different_settings(tmp_path):
  other = '--config.optimizer.momentum=0.8'
  processes = runs.start_several(tmp_path, (), (other,))
  ends = [runs.finish(process) for process in processes]
  for end in ends:
    runs.assert_one_line(end, 'the config of process [1] differs')
  assert not list(tmp_path.iterdir())
