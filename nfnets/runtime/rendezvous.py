"""Lets the processes of a run find each other before JAX connects them.

`jax.distributed.initialize` aborts the interpreter if a process is missing when
its timeout ends, and reports neither the address nor what is missing. Here
process 0 listens on the coordinator's port; the others connect and wait until
all have arrived. Then JAX can listen on the port.
"""

import contextlib
import errno
import os
import socket
import time

from nfnets import errors

_GREETING = 'nfnets'
_WAIT, _START, _ERROR = 'wait', 'start', 'error'
_RETRY_SECONDS = 0.5
# For one line of a peer, which sends it right after connecting.
_LINE_SECONDS = 5.0


def meet(
  address: str, count: int, index: int, timeout: float
) -> dict[int, socket.socket]:
  """Returns once all processes have called this.

  Args:
    address: host:port of process 0, where it must be able to listen.
    count: number of processes.
    index: index of this process.
    timeout: seconds to wait for the others.

  Returns:
    Open connections by the index of the other process: from process 0 to all
    others, and from each of them to process 0.

  Raises:
    UserError: the address is malformed, process 0 cannot be reached or cannot
      listen, a process is missing, or the processes disagree.
  """
  host, port = parse(address)
  deadline = time.monotonic() + timeout
  if index == 0:
    return _Host(address, port, count).gather(deadline, timeout)
  target = host, port
  return {0: _join(address, target, count, index, deadline, timeout)}


def parse(address: str) -> tuple[str, int]:
  """Splits host:port.

  Raises:
    UserError: it has another form.
  """
  host, _, port = address.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 65536:
    raise errors.UserError(
      f'coordinator {address!r} must have the form HOST:PORT, such as'
      ' 10.0.0.1:8476'
    )
  return host.strip('[]'), int(port)


class _Host:
  """Process 0: accepts the others and starts them together."""

  def __init__(self, address: str, port: int, count: int) -> None:
    self._address = address
    self._port = port
    self._count = count
    self._arrived: dict[int, socket.socket] = {}

  def gather(self, deadline: float, timeout: float) -> dict[int, socket.socket]:
    """Waits for all other processes and starts them (see `meet`)."""
    try:
      with contextlib.closing(self._listen()) as listener:
        while self._missing():
          left = deadline - time.monotonic()
          if left <= 0:
            raise errors.UserError(self._late(timeout))
          listener.settimeout(min(left, 1.0))
          with contextlib.suppress(TimeoutError):
            self._welcome(listener.accept()[0])
    except errors.UserError as error:
      self._tell_all(f'{_ERROR} {error}')
      for connection in self._arrived.values():
        connection.close()
      raise
    self._tell_all(_START)
    return self._arrived

  def _listen(self) -> socket.socket:
    bind = os.environ.get('JAX_COORDINATOR_BIND_ADDRESS')
    host, port = parse(bind) if bind else ('', self._port)
    try:
      return _open_server(host, port)
    except OSError as error:
      raise errors.UserError(
        f'process 0 cannot listen on port {port} of the coordinator'
        f' {self._address} ({os.strerror(error.errno or 0)}): end the program'
        ' that uses it, or choose another port in --coordinator'
      ) from error

  def _welcome(self, connection: socket.socket) -> None:
    """Adds a process; closes connections of anything else."""
    words = read_line(connection).split()
    numbers = [int(word) for word in words[1:] if word.isdecimal()]
    if words[:1] != [_GREETING] or len(numbers) != 2:
      connection.close()
      return
    count, index = numbers
    earlier = self._arrived.get(index)
    self._arrived[index] = connection
    if count != self._count:
      raise errors.UserError(
        f'process {index} was started as one of {count}, process 0 as one of'
        f' {self._count}: give every process the same --num_processes'
      )
    if earlier is not None:
      if _is_open(earlier):
        send(earlier, f'{_ERROR} another process has --process_id={index} too')
        raise errors.UserError(
          f'two processes were started with --process_id={index}: give each'
          f' its own, 0 to {self._count - 1}'
        )
      earlier.close()
    send(connection, _WAIT)

  def _missing(self) -> list[int]:
    """Returns the processes that have not arrived or have left again."""
    for index, connection in list(self._arrived.items()):
      if not _is_open(connection):
        self._arrived.pop(index).close()
    return [i for i in range(1, self._count) if i not in self._arrived]

  def _late(self, timeout: float) -> str:
    missing = self._missing()
    some = ', '.join(str(i) for i in missing[:10])
    more = ', ...' if len(missing) > 10 else ''
    return (
      f'{len(missing)} of {self._count} processes ({some}{more}) did not reach'
      f' process 0 at {self._address} within {timeout:g} s: start all of them,'
      ' with the address of process 0 as --coordinator; check firewalls; or'
      ' allow more time with --connect_seconds'
    )

  def _tell_all(self, line: str) -> None:
    for connection in self._arrived.values():
      send(connection, line)


def _open_server(host: str, port: int) -> socket.socket:
  """Listens on one address; on all of IPv6 and IPv4 if `host` is empty."""
  if not host and socket.has_dualstack_ipv6():
    try:
      return socket.create_server(
        ('', port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True
      )
    except OSError as error:
      if error.errno != errno.EADDRNOTAVAIL:  # IPv6 disabled by sysctl
        raise
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  return socket.create_server((host, port), family=family, backlog=1024)


def _join(
  address: str,
  target: tuple[str, int],
  count: int,
  index: int,
  deadline: float,
  timeout: float,
) -> socket.socket:
  """Reaches process 0, at any time before the deadline, and waits for it."""
  while True:
    try:
      left = max(deadline - time.monotonic(), 0.1)
      connection = socket.create_connection(target, min(left, _LINE_SECONDS))
    except OSError as error:
      reason = error.strerror or str(error)
    else:
      reason = _ask(connection, f'{_GREETING} {count} {index}', deadline)
      if not reason:
        return connection
      connection.close()
    if time.monotonic() >= deadline:
      break
    time.sleep(_RETRY_SECONDS)
  raise errors.UserError(
    f'process {index} could not join process 0 at {address} within {timeout:g}'
    f' s ({reason}): start process 0 with the same --coordinator, which must be'
    ' its own address; check firewalls; or allow more time with'
    ' --connect_seconds'
  )


def _ask(connection: socket.socket, hello: str, deadline: float) -> str:
  """Introduces this process to process 0 and waits for the start of the run.

  Returns:
    '' to start, or what is wrong with the answer.

  Raises:
    UserError: process 0 reports an error.
  """
  send(connection, hello)
  left = max(deadline - time.monotonic(), 0.1)
  line = read_line(connection, min(left, _LINE_SECONDS))
  if line == _WAIT:
    # It gives up first if both started together, and reports what is missing.
    line = read_line(connection, max(deadline - time.monotonic(), 0) + 2)
    if not line:
      return 'it answered, but is still waiting for other processes'
  if line.startswith(_ERROR):
    connection.close()
    raise errors.UserError(line.removeprefix(_ERROR).strip())
  if not line:
    return 'it accepts connections, but does not answer'
  return '' if line == _START else 'another program answers there'


def read_line(connection: socket.socket, seconds: float = _LINE_SECONDS) -> str:
  """Returns the next line, or '' if none comes in time."""
  deadline, data = time.monotonic() + seconds, b''
  with contextlib.suppress(OSError):
    while not data.endswith(b'\n') and len(data) < 2000:
      connection.settimeout(max(deadline - time.monotonic(), 0.01))
      part = connection.recv(1)
      if not part:
        break
      data += part
  return data.decode(errors='replace').strip()


def send(connection: socket.socket, line: str) -> None:
  """Sends a line; does nothing if the other side has gone."""
  with contextlib.suppress(OSError):
    connection.sendall(f'{line}\n'.encode())


def _is_open(connection: socket.socket) -> bool:
  """Returns whether the other side has not closed the connection."""
  connection.setblocking(False)
  try:
    return bool(connection.recv(1, socket.MSG_PEEK))
  except BlockingIOError:
    return True
  except OSError:
    return False
