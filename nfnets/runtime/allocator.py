"""How a program gets its memory from the operating system."""

import os
import re
import sys

_TUNABLES = 'GLIBC_TUNABLES'
_PREFIX = 'glibc.malloc.'
_SETTINGS = {
  # Large pieces come from the heap and stay in it.
  'mmap_max': 0,
  # In a single heap the threads wait for one another while each looks through
  # what compiling left there: a seventh of the step of a small network.
  'arena_max': 4,
  'trim_threshold': 2**40,
  # The heap asks for pages of 2 MiB.
  'hugetlb': 1,
}
# The first glibc that has them all.
_GLIBC = (2, 35)


def keep_freed_memory() -> None:
  """Starts this program anew so that it keeps the memory that it frees.

  XLA asks for the working memory of a program (0.7 GiB for an F0 train step of
  4 images) at every step and frees it afterwards. By default the C library
  hands that back to the system each time, and a CPU spends an eighth of every
  step on getting it again, page by page.

  Only a new program image can have other settings, so that this belongs at the
  very start. Nothing happens unless the program was started as
  `python -m nfnets.NAME` on Linux with a C library that has the settings. A
  GLIBC_TUNABLES that names any of glibc.malloc, such as glibc.malloc.hugetlb=0,
  stays as it is.

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
  """The environment for a child that is not to have these settings."""
  tunables = os.environ.get(_TUNABLES, '')
  # They stand last: see above.
  users = tunables.removesuffix(':'.join(_assignments())).rstrip(':')
  return os.environ | {_TUNABLES: users}


def _assignments() -> list[str]:
  return [f'{_PREFIX}{name}={value}' for name, value in _SETTINGS.items()]


def _started_as_module() -> bool:
  """Whether the interpreter's own command line names our program.

  A debugger's, a notebook's or a test runner's does not, and none of them may
  be started anew.
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
