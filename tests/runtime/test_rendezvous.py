"""Processes that find each other, as threads of this one."""

import concurrent.futures
import contextlib
import socket
import time

import pytest

from nfnets import errors
from nfnets.runtime import rendezvous


@pytest.fixture(autouse=True)
def retry_quickly(monkeypatch):
  monkeypatch.setattr(rendezvous, '_RETRY_SECONDS', 0.05)


@pytest.fixture(name='port')
def free_port():
  with socket.create_server(('127.0.0.1', 0)) as server:
    return server.getsockname()[1]


def meet(port, *processes, timeout=5.0):
  """Returns each process's error, '' if it met the others.

  Args:
    port: the coordinator's port.
    *processes: (count, index) of each.
    timeout: as in `rendezvous.meet`.
  """

  def run(process):
    try:
      address = f'127.0.0.1:{port}'
      for connection in rendezvous.meet(address, *process, timeout).values():
        connection.close()
    except errors.UserError as error:
      return str(error)
    return ''

  with concurrent.futures.ThreadPoolExecutor(len(processes)) as pool:
    return list(pool.map(run, processes))


@pytest.mark.parametrize('count', [2, 5])
def test_all_meet_and_leave_the_port_free(port, count):
  assert meet(port, *[(count, i) for i in range(count)]) == [''] * count
  rendezvous._open_server('', port).close()


def test_it_names_the_missing_processes(port):
  begun = time.monotonic()
  first, last = meet(port, (4, 0), (4, 2), timeout=0.8)
  assert time.monotonic() - begun < 5
  expected = '2 of 4 processes (1, 3) did not reach process 0 at 127.0.0.1:'
  assert first.startswith(f'{expected}{port} within 0.8 s: start all')
  assert last == first


def test_a_late_coordinator_is_waited_for(port):
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    other = pool.submit(rendezvous.meet, f'127.0.0.1:{port}', 2, 1, 10)
    time.sleep(0.3)
    assert not other.done()
    rendezvous.meet(f'127.0.0.1:{port}', 2, 0, 10)
    other.result()


def test_a_refused_connection_names_the_address(port):
  [reason] = meet(port, (2, 1), timeout=0.1)
  assert f'process 1 could not join process 0 at 127.0.0.1:{port}' in reason
  assert '(Connection refused): start process 0' in reason
  assert '\n' not in reason


def test_an_unknown_host_is_named():
  with pytest.raises(errors.UserError, match=r'at no\.such\.invalid:1 within'):
    rendezvous.meet('no.such.invalid:1', 2, 1, 0.1)


@pytest.mark.parametrize(
  'answer, reason',
  [(b'SSH-2.0-x\r\n', 'another program answers'), (b'', 'does not answer')],
)
def test_another_program_at_the_address(answer, reason):
  with socket.create_server(('127.0.0.1', 0)) as server:
    port = server.getsockname()[1]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
      other = pool.submit(meet, port, (2, 1), timeout=0.3)
      server.settimeout(0.1)
      connections = []
      while not other.done():
        with contextlib.suppress(TimeoutError):
          connections.append(server.accept()[0])
          connections[-1].sendall(answer)
      [message] = other.result()
      for connection in connections:
        connection.close()
  assert reason in message


def test_a_port_in_use_is_reported(port):
  with socket.create_server(('', port)):
    [message] = meet(port, (2, 0))
  assert f'cannot listen on port {port}' in message
  assert 'Address already in use' in message


def test_strangers_and_processes_that_leave_do_not_count(port):
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    first = pool.submit(meet, port, (3, 0), timeout=10)
    for hello in (b'GET / HTTP/1.1\r\n', b'nfnets a b\n', b'nfnets 3 1\n'):
      while True:
        try:
          connection = socket.create_connection(('127.0.0.1', port))
          break
        except ConnectionRefusedError:
          time.sleep(0.01)
      connection.sendall(hello)
      connection.close()
      assert not first.done()
    assert meet(port, (3, 2), (3, 1), timeout=10) == ['', '']
    assert first.result() == ['']


def test_processes_that_disagree_about_their_number_end_together(port):
  first, second = meet(port, (2, 0), (3, 1))
  assert first == second
  assert 'process 1 was started as one of 3, process 0 as one of 2' in first


def test_two_processes_of_one_index(port):
  ends = meet(port, (3, 0), (3, 1), (3, 1))
  assert 'two processes were started with --process_id=1' in ends[0]
  assert any('another process has --process_id=1 too' in e for e in ends[1:])


@pytest.mark.parametrize('address', ['host', 'host:', ':1', 'host:x', 'h:0'])
def test_malformed_addresses_are_refused(address):
  with pytest.raises(errors.UserError, match='must have the form HOST:PORT'):
    rendezvous.parse(address)


def test_addresses():
  assert rendezvous.parse('node-1.cluster:80') == ('node-1.cluster', 80)
  assert rendezvous.parse('[::1]:80') == ('::1', 80)
