"""Ends all processes of a run if one of them ends early.

JAX itself would notice a lost process after a minute and abort; a process that
ends with an error would wait a minute for the others and abort too.
"""

import os
import selectors
import socket
import sys
import threading

from nfnets.runtime import rendezvous

RERUN = 'rerun the command on every host to resume from the latest checkpoint'
_DONE, _ERROR = 'done', 'error'
# How long the others may take to fail by themselves, with their own message and
# after completing a checkpoint. Process 0 stays longer: JAX aborts the others
# as soon as it is gone.
_GRACE_SECONDS = 10.0
_LAST_SECONDS = 3.0


class Watch:
  """Exchanges the ends of processes over the connections of `rendezvous.meet`.

  A thread receives them; if a process was lost or has failed and this one does
  not end by itself, it ends it with status 1 and one line.
  """

  def __init__(self, index: int, peers: dict[int, socket.socket]) -> None:
    """Starts the thread.

    Args:
      index: index of this process.
      peers: connections to the other processes by index: to all of them in
        process 0, to process 0 in the others.
    """
    self._index = index
    self._peers = peers
    self._ending = threading.Event()
    self._known = threading.Event()
    self._reason = ''
    for connection in peers.values():
      _detect_dead_hosts(connection)
    self._thread = threading.Thread(target=self._receive, daemon=True)
    self._thread.start()

  def reason(self, seconds: float) -> str:
    """Returns why another process ended early; '' if none does in this time."""
    self._known.wait(seconds)
    return self._reason

  def finish(self) -> None:
    """Announces that this process has done its part."""
    self._ending.set()
    self._tell(_DONE)

  def fail(self, reason: str) -> None:
    """Announces that this process ends early; process 0 waits for the others.

    Args:
      reason: one line for the other processes to print.
    """
    self._ending.set()
    self._tell(f'{_ERROR} process {self._index} failed: {reason}')
    if self._index == 0:
      self._thread.join(_GRACE_SECONDS + _LAST_SECONDS)

  def _receive(self) -> None:
    """Reads until every peer has finished or is gone."""
    with selectors.DefaultSelector() as selector:
      for index, connection in self._peers.items():
        selector.register(connection, selectors.EVENT_READ, index)
      while selector.get_map():
        for key, _ in selector.select():
          line = rendezvous.read_line(self._peers[key.data])
          if not line.startswith(_ERROR):
            selector.unregister(key.fileobj)
          if line != _DONE:
            self._end(key.data, line)

  def _end(self, index: int, line: str) -> None:
    """Passes the first failure on and ends this process after a while."""
    if self._known.is_set():
      return
    self._reason = line.removeprefix(_ERROR).strip() or (
      f'process {index} was lost: {RERUN}'
    )
    seconds = _GRACE_SECONDS
    if self._index == 0:
      self._tell(f'{_ERROR} {self._reason}')
      seconds += _LAST_SECONDS
    self._known.set()
    timer = threading.Timer(seconds, self._exit)
    timer.daemon = True
    timer.start()

  def _exit(self) -> None:
    if not self._ending.is_set():
      print(f'error: {self._reason}', file=sys.stderr)
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(1)

  def _tell(self, line: str) -> None:
    for connection in self._peers.values():
      rendezvous.send(connection, line)


def _detect_dead_hosts(connection: socket.socket) -> None:
  """Closes a connection after a minute without an answer of its host."""
  connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
  options = {'TCP_KEEPIDLE': 30, 'TCP_KEEPINTVL': 10, 'TCP_KEEPCNT': 3}
  for name, value in options.items():
    if hasattr(socket, name):  # not on every platform
      connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
