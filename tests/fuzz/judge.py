"""Gives one input to a reader, within limits of time and memory."""

import contextlib
import pathlib
import re
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import NamedTuple

from nfnets import errors
from tests.fuzz import mutate

SECONDS = 5.0
"""An input that takes longer is a finding."""

# What reading a file never does. The real unpickler reports each name.
_FORBIDDEN = re.compile(
  r'os\.(system|exec|fork|forkpty|posix_spawn|spawn|startfile|putenv)'
  r'|subprocess\.Popen|pty\.spawn|pickle\.find_class|socket\.connect'
  r'|urllib\.Request|webbrowser\.open|marshal\.loads?|code\.__new__'
)
# Code of the interpreter and of libraries that uses some of it to import.
_LOADING = ('importlib', 'zipimport', 'linecache')
_MEMORY = re.compile('fit in memory|MemoryError|allocate|bad_alloc')


class Reader(NamedTuple):
  """A reader under test.

  Attributes:
    seeds: creates the folders to mutate; called once.
    read: reads a folder. It returns, or raises a UserError to refuse; any other
      exception is a finding.
    paths: returns those files of a seed that may change.
    memory: bytes that one input may take.
  """

  seeds: Callable[[], list[mutate.Tree]]
  read: Callable[[pathlib.Path], None]
  paths: Callable[[mutate.Tree], list[str]] = list
  memory: int = 2**28


class _TooSlow(BaseException):
  """Passes through `except Exception`."""


def run(
  reader: Reader, tree: mutate.Tree, folder: pathlib.Path
) -> tuple[str, str]:
  """Reads one input.

  Args:
    reader: the reader.
    tree: the input.
    folder: where to write it; emptied first.

  Returns:
    ('read', ''), ('refused', the message), or ('finding', why).
  """
  _write(tree, folder)
  with _watched() as events:
    result = _read(reader, folder)
  if events:
    return 'finding', f'executes {events[0]}'
  return result


def warm_up(
  reader: Reader, tree: mutate.Tree, folder: pathlib.Path
) -> tuple[str, str]:
  """Reads a seed without limits."""
  _write(tree, folder)
  reader.read(folder)
  return 'read', ''


def _write(tree: mutate.Tree, folder: pathlib.Path) -> None:
  shutil.rmtree(folder, ignore_errors=True)
  for name, data in tree.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _read(reader: Reader, folder: pathlib.Path) -> tuple[str, str]:
  try:
    with _limited(reader.memory):
      reader.read(folder)
  except errors.UserError as error:
    text = str(error)
    if _MEMORY.search(text):
      return 'finding', f'takes too much memory: {text}'
    if '\n' in text or '\x1b' in text:
      return 'finding', f'is refused in several lines: {text!r}'
    return 'refused', text
  except _TooSlow:
    return 'finding', f'takes more than {SECONDS:g} s\n{traceback.format_exc()}'
  except BaseException:
    return 'finding', traceback.format_exc()
  return 'read', ''


@contextlib.contextmanager
def _limited(memory: int) -> Iterator[None]:
  """Limits the time and the memory of this process for a while."""

  def stop(*_: object) -> None:
    raise _TooSlow

  status = pathlib.Path('/proc/self/status').read_text()
  used = int(re.findall(r'VmData:\s+(\d+)', status)[0]) * 1024
  limits = resource.getrlimit(resource.RLIMIT_DATA)
  handler = signal.signal(signal.SIGALRM, stop)
  resource.setrlimit(resource.RLIMIT_DATA, (used + memory, limits[1]))
  signal.setitimer(signal.ITIMER_REAL, SECONDS)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    resource.setrlimit(resource.RLIMIT_DATA, limits)
    signal.signal(signal.SIGALRM, handler)


_watching: list[list[str]] = []


@contextlib.contextmanager
def _watched() -> Iterator[list[str]]:
  """Records the forbidden things that happen in the block."""
  if not _watching:
    sys.addaudithook(_audit)  # Cannot be removed.
    _watching.append([])
  _watching.append([])
  try:
    yield _watching[-1]
  finally:
    _watching.pop()


def _audit(event: str, arguments: tuple[object, ...]) -> None:
  if len(_watching) < 2 or not _FORBIDDEN.fullmatch(event):
    return
  frame = sys._getframe(1)
  while frame is not None:
    if any(name in frame.f_code.co_filename for name in _LOADING):
      return
    frame = frame.f_back
  _watching[-1].append(f'{event}{arguments!r:.200}')
