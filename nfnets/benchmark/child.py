"""Measures another framework in a process of its own.

In one process, the thread pools of XLA and the other framework would compete.
The child process runs one measurement for each line that it receives on
standard input, and answers with the seconds and the bytes of device memory.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from nfnets import errors
from nfnets.runtime import allocator


class Contestant:
  """A call of a child process, to be timed like one of our programs.

  Attributes:
    memory: the peak of the device memory in the last measurement, bytes; 0 if
      the framework does not report it.
  """

  def __init__(
    self, peer: str, process: subprocess.Popen[str], call: str
  ) -> None:
    """Refers to a call by its name in `serve`; `peer` is for messages."""
    self.memory = 0
    self._peer, self._process, self._call = peer, process, call

  def __call__(self, count: int = 1) -> float:
    """Requests one measurement, see `timing.Run`.

    Raises:
      UserError: the child has exited; shows its last line of output.
    """
    process = self._process
    assert process.stdin and process.stdout and process.stderr
    with contextlib.suppress(BrokenPipeError):
      process.stdin.write(f'{self._call} {count}\n')
      process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
      output = process.stderr.read().strip().splitlines()
      reason = output[-1] if output else 'it exited without a message'
      raise errors.UserError(f'{self._peer} did not run: {reason}')
    seconds, memory = answer.split()
    self.memory = int(memory)
    return float(seconds)


@contextlib.contextmanager
def started(
  peer: str, module: str, arguments: Sequence[object], calls: Sequence[str]
) -> Iterator[dict[str, Contestant]]:
  """Starts a child process that ends with the context.

  Args:
    peer: the framework's name, for messages.
    module: the module to run, which calls `serve`.
    arguments: its arguments.
    calls: the calls that it serves.

  Yields:
    A contestant per call; valid inside the context.

  Raises:
    UserError: the first call fails.
  """
  process = subprocess.Popen(
    [sys.executable, '-m', module, *map(str, arguments)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    # The settings that users of the framework have.
    env=allocator.default_environment(),
  )
  try:
    contestants = {call: Contestant(peer, process, call) for call in calls}
    contestants[calls[0]]()
    yield contestants
  finally:
    process.kill()
    process.communicate()


def serve(
  calls: Mapping[str, Callable[[], object]],
  wait: Callable[[], object] = lambda: None,
  peak_memory: Callable[[], int] = lambda: 0,
) -> None:
  """Answers requests in the child process until standard input ends.

  Args:
    calls: the calls by name.
    wait: waits until the device has finished.
    peak_memory: returns the largest device memory since its last call, bytes;
      0 if it is not known.
  """
  for line in sys.stdin:
    name, count = line.rsplit(maxsplit=1)
    wait()
    peak_memory()
    start = time.perf_counter()
    for _ in range(int(count)):
      calls[name]()
    wait()
    seconds = time.perf_counter() - start
    print(seconds, peak_memory(), flush=True)
