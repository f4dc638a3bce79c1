"""Compilation and start-up settings for every entry point.

An F0 train step takes ten seconds or more to compile on a CPU, and about one
second to read from the cache. The cache holds executable code: it is in a
folder that only the user can write to, and only these programs should fill it.
"""

import gc
import importlib.util
import logging
import os
import pathlib
import stat
import subprocess
import sys
from collections.abc import Sequence

import jax

from nfnets import errors, files

_log = logging.getLogger(__name__)

_FLAGS = (
  # Saves a third of the compile time of a train step on a CPU; the step runs as
  # fast as without it.
  '--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE',
  # XLA for CPUs would otherwise drop two kinds of barriers: those that keep
  # rematerialized values from being merged with the values they replace, and
  # those that keep equal operations of a deep network equal (`nfnets.xla`).
  '--xla_disable_hlo_passes=cse_barrier_expander',
)
# Parses XLA_FLAGS, and nothing else.
_PARSE = 'from jaxlib import xla_client; xla_client.CompileOptions()'

# JAX reads it when it is imported.
_VARIABLE = 'JAX_COMPILATION_CACHE_DIR'
OPT_OUT = 'NFNETS_COMPILATION_CACHE'
_OFF = ('0', 'off', 'false', 'no')
# Objects between two collections; Python's default is 700.
_COLLECT_EVERY = 50_000


def prepare(*, cache: bool = True, only_here: bool = True) -> None:
  """Calls all functions below; must run before JAX's first use.

  Args:
    cache: whether to keep compiled programs between runs; False ignores
      JAX_COMPILATION_CACHE_DIR too.
    only_here: whether all programs are for the devices of this machine.
  """
  if only_here:
    set_compiler_flags()
  run_in_calling_thread()
  collect_garbage_rarely()
  if cache:
    enable_compilation_cache()
  else:
    jax.config.update('jax_compilation_cache_dir', None)


def set_compiler_flags() -> None:
  """Makes XLA compile quickly for CPUs and keep rematerialization.

  Must run before JAX's first use. Values that the user has set for the same
  flags in XLA_FLAGS take precedence. Flags that this release of XLA does not
  know are left out. Does nothing where JAX may use an accelerator: XLA for GPUs
  cannot compile the barriers that the flags keep.
  """
  flags = os.environ.get('XLA_FLAGS', '')
  ours = [flag for flag in _FLAGS if flag.partition('=')[0] not in flags]
  if not ours or _may_use_accelerators():
    return
  if not _known(ours):
    ours = [flag for flag in ours if _known([flag])]
  os.environ['XLA_FLAGS'] = ' '.join([flags, *ours]).strip()


def _may_use_accelerators() -> bool:
  """Returns whether JAX has the package of an accelerator and may use it."""
  if jax.config.jax_platforms == 'cpu':
    return False
  # CUDA, ROCm and others are plugins.
  packages = ('libtpu', 'jax_plugins')
  return any(map(importlib.util.find_spec, packages))


def _known(flags: Sequence[str]) -> bool:
  """Returns whether XLA knows all flags.

  XLA aborts its process on an unknown flag, so another one asks: 0.2 s.
  """
  asked = subprocess.run(
    [sys.executable, '-P', '-c', _PARSE],
    env=os.environ | {'XLA_FLAGS': ' '.join(flags)},
    stdin=subprocess.DEVNULL,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    check=False,
  )
  return asked.returncode == 0


def run_in_calling_thread() -> None:
  """Makes programs for a single CPU device run in the calling thread.

  By default a call hands the program to one of several threads. glibc gives
  each thread a heap of its own in blocks of at most 64 MiB, so the working
  memory of a program comes from the system at every call, page by page, unless
  the thread happens to share the main heap. This costs an eighth of the train
  step of a ResNet-50. Must run before JAX's first use.
  """
  jax.config.update('jax_cpu_enable_async_dispatch', False)


def collect_garbage_rarely() -> None:
  """Makes Python collect garbage less often.

  Tracing a network creates millions of objects; with Python's default a third
  of the time goes into scanning them over and over.
  """
  gc.set_threshold(_COLLECT_EVERY, *gc.get_threshold()[1:])


def enable_compilation_cache() -> pathlib.Path | None:
  """Makes JAX keep compiled programs between runs.

  The folder is JAX_COMPILATION_CACHE_DIR if the user has set it, else one of
  ours unless NFNETS_COMPILATION_CACHE=0. If ours cannot be written there is no
  cache and no error. If the folder belongs to another user than this one and
  root, or others may write to it, a warning is logged and there is no cache:
  JAX executes what it contains. Must run before anything is compiled.

  Returns:
    The folder in use, or None without a cache.
  """
  given = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', None)
  directory = _users_folder(given) if given else _own_folder()
  if directory is not None:
    jax.config.update('jax_compilation_cache_dir', str(directory))
  return directory


def _own_folder() -> pathlib.Path | None:
  if os.environ.get(OPT_OUT, '').lower() in _OFF:
    return None
  directory = files.cache_folder('xla')
  try:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
  except OSError:
    return None
  if not os.access(directory, os.W_OK | os.X_OK):
    return None
  if not _trusted(directory, 'XDG_CACHE_HOME'):
    return None
  # JAX's default, 1 s, skips dozens of small programs of every start.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.05)
  return directory


def _users_folder(given: str) -> pathlib.Path | None:
  try:
    directory = files.user_path(given, _VARIABLE).absolute()
    # JAX would create it with the umask, perhaps writable by the group.
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
  except OSError as error:
    _log.warning(
      '%s (%s) cannot be created (%s): compiled programs are not cached',
      *(given, _VARIABLE, error.strerror),
    )
  except errors.UserError as error:
    _log.warning('%s; compiled programs are not cached', error)
  else:
    return directory if _trusted(directory, _VARIABLE) else None
  return None


def _trusted(directory: pathlib.Path, variable: str) -> bool:
  """Returns whether only this user and root can write to the folder.

  Warns if not, and names the environment variable that selects the folder.
  """
  status = directory.stat()
  if status.st_uid not in (0, os.geteuid()):
    found = f'belongs to another user (id {status.st_uid})'
  elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
    found = f'can be written by others (mode {stat.S_IMODE(status.st_mode):o})'
  else:
    return True
  _log.warning(
    '%s %s: compiled programs are not cached; remove the folder, or set'
    ' %s to one of yours',
    directory,
    found,
    variable,
  )
  return False
