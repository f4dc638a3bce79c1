"""Settings of the C library's memory allocator."""

import os
import re
import sys

_TUNABLES = 'GLIBC_TUNABLES'
_PREFIX = 'glibc.malloc.'
_SETTINGS = {
  # Large blocks come from the heap and stay in it.
  'mmap_max': 0,
  # With a single heap, threads wait for one another while each searches the
  # blocks that compilation left: a seventh of a small network's step.
  'arena_max': 4,
  'trim_threshold': 2**40,
  # The heap requests pages of 2 MiB.
  'hugetlb': 1,
}
# The first glibc with all of these settings.
_GLIBC = (2, 35)


def keep_freed_memory() -> None:
  """Restarts this program so that it reuses freed memory.

  XLA allocates the working memory of a program (0.7 GiB for an F0 train step
  with 4 images) at every step and frees it afterwards. By default the C library
  returns it to the system each time, and a CPU spends an eighth of every step
  on getting it back, page by page.

  The settings apply only when a program starts, so call this first. Does
  nothing unless the program was started as `python -m nfnets.NAME` on Linux
  with a C library that has the settings. If GLIBC_TUNABLES already contains any
  glibc.malloc setting, such as glibc.malloc.hugetlb=0, it stays unchanged.

  References:
    GNU Project, `The GNU C Library Reference Manual`, 2022, section Memory
    Allocation Tunables.
  """
  tunables = os.environ.get(_TUNABLES, '')
  if _PREFIX in tunables or not (_started_as_module() and _has_settings()):
    return
  os.environ[_TUNABLES] = ':'.join(filter(None, [tunables, *_assignments()]))
  os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def default_environment() -> dict[str, str]:
  """Returns the environment for a child process without these settings."""
  tunables = os.environ.get(_TUNABLES, '')
  # keep_freed_memory appends the settings.
  users = tunables.removesuffix(':'.join(_assignments())).rstrip(':')
  return os.environ | {_TUNABLES: users}


def _assignments() -> list[str]:
  return [f'{_PREFIX}{name}={value}' for name, value in _SETTINGS.items()]


def _started_as_module() -> bool:
  """Returns whether the interpreter was started as `python -m nfnets.NAME`.

  Debuggers, notebooks and test runners were not; they must not be restarted.
  """
  spec = getattr(sys.modules['__main__'], '__spec__', None)
  name = spec.name.removesuffix('.__main__') if spec else ''
  words = sys.orig_argv
  given = words[words.index('-m') + 1 :][:1] if '-m' in words else []
  return name.startswith('nfnets.') and given == [name]


def _has_settings() -> bool:
  try:
    library = os.confstr('CS_GNU_LIBC_VERSION') or ''
  except (ValueError, AttributeError):
    return False
  # 'glibc 2.36'
  version = re.findall(r'\d+', library)[:2]
  return tuple(map(int, version)) >= _GLIBC
