import os
import signal

import pytest

from nfnets.training import interruption as interruption_lib

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize(
  'number, status',
  [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_a_signal_is_noticed_by_the_next_poll(number, status):
  with interruption_lib.Interruption() as interruption:
    assert not interruption.poll()
    os.kill(os.getpid(), number)
    assert not interruption.stopping and interruption.exit_status == 0
    assert interruption.poll() and interruption.poll()
    assert interruption.stopping and interruption.exit_status == status


def test_the_first_signal_determines_the_exit_status():
  with interruption_lib.Interruption() as interruption:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    assert interruption.poll()
  assert interruption.exit_status == 143


def test_handlers_are_restored():
  before = [signal.getsignal(number) for number in SIGNALS]
  with interruption_lib.Interruption():
    assert [signal.getsignal(number) for number in SIGNALS] != before
  assert [signal.getsignal(number) for number in SIGNALS] == before


def test_under_nohup_sighup_stays_ignored():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with interruption_lib.Interruption() as interruption:
      os.kill(os.getpid(), signal.SIGHUP)
      assert not interruption.poll()
  finally:
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def runtime(monkeypatch):
  """A fake jax.distributed; returns the answers of its polls and the calls."""
  answers: dict[int, bool] = {}
  polls: list[int] = []

  def reached(number):
    polls.append(number)
    return answers.get(number, False)

  monkeypatch.setattr(
    interruption_lib.jax.distributed, 'is_initialized', lambda: True
  )
  monkeypatch.setattr(
    interruption_lib.multihost_utils, 'reached_preemption_sync_point', reached
  )
  return answers, polls


def test_several_processes_stop_when_the_runtime_says_so(runtime):
  answers, polls = runtime
  before = signal.getsignal(signal.SIGTERM)
  answers[2] = True
  with interruption_lib.Interruption() as interruption:
    # SIGTERM belongs to the runtime.
    assert signal.getsignal(signal.SIGTERM) == before
    assert [interruption.poll() for _ in range(4)] == [False, True, True, True]
  assert polls == [1, 2]
  # Another process got the signal.
  assert interruption.exit_status == 143


@pytest.mark.parametrize(
  'number, status', [(signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_other_signals_are_forwarded_to_the_runtime_once(
  runtime, monkeypatch, number, status
):
  sent = []
  with interruption_lib.Interruption() as interruption:
    with monkeypatch.context() as patch:
      patch.setattr(os, 'kill', lambda pid, number: sent.append((pid, number)))
      signal.raise_signal(number)
      signal.raise_signal(number)
    runtime[0][1] = True
    assert interruption.poll()
  assert sent == [(os.getpid(), signal.SIGTERM)]
  assert interruption.exit_status == status
