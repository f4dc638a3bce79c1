"""Connects the processes of one run, through jax.distributed."""

import contextlib
import os
import re
import socket
import sys
import traceback
from collections.abc import Iterator

import jax

from nfnets import errors
from nfnets.runtime import launchers, rendezvous, watch

# JAX aborts the process if another does not respond for this long, connect or
# end in this time. `rendezvous` and `watch` report most failures earlier.
_HEARTBEAT_SECONDS = 60
_JAX_CONNECT_SECONDS = 60
_SHUTDOWN_SECONDS = 60
# In the errors of a collective operation if another process is gone.
_LOST = re.compile(
  '^(UNAVAILABLE|ABORTED|DEADLINE_EXCEEDED)|^(UNKNOWN|INTERNAL).*(Gloo|NCCL)'
)


@contextlib.contextmanager
def connected(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  connect_seconds: int = 45,
) -> Iterator[None]:
  """Connects the processes of one run; does nothing for a single process.

  Must come before any other use of JAX, and around everything that uses it. If
  one process fails or is lost, all end with status 1 and one line each.
  `launchers.find` describes how the processes are found. On GPUs, JAX assigns
  one device to each process of Slurm and Open MPI; for one process per machine
  set, for example, JAX_LOCAL_DEVICE_IDS=0,1,2,3.

  Args:
    coordinator: address:port of process 0.
    num_processes: number of processes in the run; 1 disables the detection of
      launchers.
    process_id: index of this process, from 0.
    connect_seconds: how long to wait for the other processes. The default makes
      a wrong address an error within a minute, start-up included; hosts that
      start minutes apart need more.

  Raises:
    UserError: the arguments or variables are incomplete or invalid, or the
      processes do not find each other.
  """
  found = launchers.find(
    coordinator, num_processes, process_id, connect_seconds
  )
  if found is None:
    yield
    return
  peers: dict[int, socket.socket] = {}
  address, count, index = found.coordinator, found.count, found.index
  if address is not None and count is not None and index is not None:
    _bypass_proxies(rendezvous.parse(address)[0])
    peers = rendezvous.meet(address, count, index, connect_seconds)
  jax.distributed.initialize(
    address,
    count,
    index,
    cluster_detection_method=found.method,
    initialization_timeout=_JAX_CONNECT_SECONDS,
    heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
    shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
  )
  with _ending_together(watch.Watch(index or 0, peers)):
    yield


@contextlib.contextmanager
def _ending_together(watched: watch.Watch) -> Iterator[None]:
  """Reports an exception and ends the process, after the others know it.

  By the usual way out JAX would wait for the other processes, then abort.
  """
  try:
    yield
  except (Exception, KeyboardInterrupt) as error:
    reason = ' '.join(str(error).split()) or type(error).__name__
    status = 1
    if isinstance(error, errors.UserError):
      print(f'error: {error}', file=sys.stderr)
    elif isinstance(error, KeyboardInterrupt):
      print('interrupted', file=sys.stderr)
      status = 130
    elif _LOST.search(reason):  # of JAX, which may raise a plain ValueError
      reason = watched.reason(seconds=1) or (
        f'another process was lost ({reason[:200]}): {watch.RERUN}'
      )
      print(f'error: {reason}', file=sys.stderr)
    else:
      traceback.print_exc()
      reason = f'{type(error).__name__}: {reason}'
    sys.stdout.flush()
    sys.stderr.flush()
    watched.fail(reason)
    os._exit(status)
  watched.finish()


def _bypass_proxies(host: str) -> None:
  """Makes gRPC, which JAX connects with, reach a host directly.

  It would otherwise use http_proxy, which clusters set for the outside world.
  """
  direct = os.environ.get('no_grpc_proxy') or os.environ.get('no_proxy')
  os.environ['no_grpc_proxy'] = ','.join(filter(None, [direct, host]))
  jax.config.update('jax_check_proxy_envs', False)  # its warning is moot
