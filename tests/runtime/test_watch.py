"""Processes that learn of each other's end, as objects of this one."""

import contextlib
import itertools
import socket
import threading

import pytest

from nfnets.runtime import watch


@pytest.fixture(name='ends')
def recorded_ends(monkeypatch):
  """Records the processes that would be ended, without delay."""
  ended = []
  monkeypatch.setattr(watch, '_GRACE_SECONDS', 0.05)
  monkeypatch.setattr(watch, '_LAST_SECONDS', 0.05)

  def leave(self):
    if not self._ending.is_set():
      ended.append((self._index, self.reason(0)))
      for connection in self._peers.values():
        with contextlib.suppress(OSError):
          connection.shutdown(socket.SHUT_RDWR)

  monkeypatch.setattr(watch.Watch, '_exit', leave)
  return ended


def start(count):
  """Returns the watches of all processes and the connections of each."""
  pairs = [socket.create_server(('127.0.0.1', 0)) for _ in range(count - 1)]
  host, others = {}, []
  for index, server in enumerate(pairs, 1):
    others.append(socket.create_connection(server.getsockname()))
    host[index] = server.accept()[0]
    server.close()
  peers = [host, *({0: connection} for connection in others)]
  return [watch.Watch(i, peer) for i, peer in enumerate(peers)], peers


def wait(watches):
  for each in watches:
    each._thread.join(5)
    assert not each._thread.is_alive()
  for timer in threading.enumerate():
    if isinstance(timer, threading.Timer):
      timer.join()


@pytest.mark.parametrize('order', itertools.permutations(range(3)))
def test_processes_that_finish_end_nothing(ends, order):
  watches, peers = start(3)
  for index in order:
    watches[index].finish()
    for connection in peers[index].values():
      connection.shutdown(socket.SHUT_WR)
  wait(watches)
  assert ends == []


def test_all_end_when_one_is_lost(ends):
  watches, peers = start(4)
  peers[2][0].shutdown(socket.SHUT_RDWR)
  watches[2]._ending.set()
  wait(watches)
  assert sorted(index for index, _ in ends) == [0, 1, 3]
  assert {reason for _, reason in ends} == {
    'process 2 was lost: rerun the command on every host to resume from the'
    ' latest checkpoint'
  }
  assert ends[-1][0] == 0, 'JAX aborts the others when process 0 is gone'


def test_all_end_when_process_0_is_lost(ends):
  watches, peers = start(3)
  watches[0]._ending.set()
  watches[0]._known.set()  # It notices nothing any more.
  for connection in peers[0].values():
    connection.shutdown(socket.SHUT_RDWR)
  wait(watches)
  assert sorted(index for index, _ in ends) == [1, 2]
  assert ends[0][1].startswith('process 0 was lost: rerun')


def test_all_end_with_the_error_of_one(ends):
  watches, peers = start(3)
  watches[1].fail('no data')
  peers[1][0].shutdown(socket.SHUT_RDWR)
  wait([watches[0], watches[2]])
  assert sorted(ends) == [
    (0, 'process 1 failed: no data'),
    (2, 'process 1 failed: no data'),
  ]


def test_process_0_fails_after_the_others_have_ended(ends):
  watches, _ = start(3)
  watches[0].fail('no data')
  assert sorted(ends) == [
    (1, 'process 0 failed: no data'),
    (2, 'process 0 failed: no data'),
  ]
  assert not watches[0]._thread.is_alive()


def test_processes_that_fail_together_end_by_themselves(ends):
  watches, peers = start(3)
  for index in (1, 2):
    watches[index].fail('the same')
    peers[index][0].shutdown(socket.SHUT_RDWR)
  watches[0].fail('the same')
  assert ends == []


def test_a_process_ends_with_status_1_and_one_line(monkeypatch, capsys):
  statuses = []
  monkeypatch.setattr(watch.os, '_exit', statuses.append)
  [_, other], _ = start(2)
  other._reason = 'process 0 was lost'
  other._exit()
  assert statuses == [1]
  assert capsys.readouterr().err == 'error: process 0 was lost\n'
  other.finish()
  other._exit()
  assert statuses == [1]
