"""How programs are compiled and started, for every entry point.

An F0 train step takes ten seconds and more to compile on a CPU; read back from
the cache it takes about one. The cache holds executable code: it lies in a
folder that only the user can write, and nothing but these programs should fill
it.
"""

import gc
import importlib.util
import os
import pathlib

import jax
import jaxlib

from nfnets import files

_FLAGS = (
  # A third off the compile time of a train step on a CPU, which itself takes as
  # long.
  '--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE',
  # Without it XLA for CPUs drops the barriers that keep what rematerialization
  # computes again from being merged with what it was to replace, and those
  # that keep the equal operations of a deep network equal (`optim.agc`).
  '--xla_disable_hlo_passes=cse_barrier_expander',
)
# XLA ends the process at a flag that it does not know.
_FLAG_VERSIONS = ('0.10.',)

OPT_OUT = 'NFNETS_COMPILATION_CACHE'
_OFF = ('0', 'off', 'false', 'no')
# Objects between two collections; Python's default is 700.
_COLLECT_EVERY = 50_000


def prepare(*, cache: bool = True) -> None:
  """All of the functions below; to be called before JAX's first use.

  Args:
    cache: whether compiled programs are kept between runs.
  """
  set_compiler_flags()
  run_in_calling_thread()
  collect_garbage_rarely()
  if cache:
    enable_compilation_cache()


def set_compiler_flags() -> None:
  """Asks XLA to compile quickly for CPUs, and to keep rematerialization.

  To be called before JAX's first use. What the user has put in XLA_FLAGS for
  the same flags stays. Releases of jaxlib that were not tried, and machines
  with TPUs, keep XLA's defaults.
  """
  flags = os.environ.get('XLA_FLAGS', '')
  tried = jaxlib.version.__version__.startswith(_FLAG_VERSIONS)
  has_tpu = importlib.util.find_spec('libtpu') is not None
  if tried and not has_tpu:
    ours = [flag for flag in _FLAGS if flag.partition('=')[0] not in flags]
    os.environ['XLA_FLAGS'] = ' '.join([flags, *ours]).strip()


def run_in_calling_thread() -> None:
  """Has the thread that calls a program on a single CPU device run it.

  By default a call only hands the program to one of several threads. glibc
  gives each its own heap, of pieces of 64 MiB at most, so that the working
  memory of a program comes from the system at every call, page by page, unless
  the thread happens to be one that shares the main heap: an eighth of the train
  step of a ResNet-50. To be called before JAX's first use.
  """
  jax.config.update('jax_cpu_enable_async_dispatch', False)


def collect_garbage_rarely() -> None:
  """Has Python look for garbage once in many new objects.

  Tracing a network makes millions of them, and at Python's default a third of
  its time goes into looking through them again and again.
  """
  gc.set_threshold(_COLLECT_EVERY, *gc.get_threshold()[1:])


def enable_compilation_cache() -> pathlib.Path | None:
  """Lets JAX keep compiled programs between runs.

  A cache that the user has already set (JAX_COMPILATION_CACHE_DIR) is left as
  it is; NFNETS_COMPILATION_CACHE=0 turns ours off. A folder that cannot be
  written means no cache, not a failure. To be called before anything is
  compiled.

  Returns:
    The folder in use, or None without a cache.
  """
  if jax.config.jax_compilation_cache_dir:
    return pathlib.Path(jax.config.jax_compilation_cache_dir)
  if os.environ.get(OPT_OUT, '').lower() in _OFF:
    return None
  directory = files.cache_folder('xla')
  try:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
  except OSError:
    return None
  if not os.access(directory, os.W_OK | os.X_OK):
    return None
  jax.config.update('jax_compilation_cache_dir', str(directory))
  # JAX's default, 1 s, leaves out dozens of small programs of every start.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.05)
  return directory
