"""Settings for all tests, set before JAX starts."""

import gc
import os
import pathlib
import signal
from collections.abc import Iterator

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax
import pytest

from nfnets.runtime import compilation
from tests import helpers

# As in the programs: rare collections save a fifth of the tests' time, and the
# compiled programs of an earlier run half of it.
compilation.collect_garbage_rarely()
compilation.enable_compilation_cache()
jax.config.update('jax_num_cpu_devices', 4)
jax.config.update('jax_numpy_rank_promotion', 'raise')
# Under nohup it is ignored, and the tests of SIGHUP would fail.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Most tests run what they compile once. JAX reads the flags when it starts; the
# programs that tests start do not see them, but run as users run them.
if 'XLA_FLAGS' not in os.environ:
  os.environ['XLA_FLAGS'] = helpers.QUICK_COMPILATION
  jax.devices()
  del os.environ['XLA_FLAGS']

# Linux allows 65,530 mappings in a process. Each kernel of a compiled program
# takes three, so the tests of a few dozen training runs reach the limit, and
# the next compilation ends the process.
_MAX_MAPPINGS = 10_000
_MAPPINGS = pathlib.Path('/proc/self/maps')


@pytest.fixture(autouse=True, scope='module')
def _forget_compiled_programs() -> Iterator[None]:
  yield
  if _MAPPINGS.exists():
    with _MAPPINGS.open('rb') as lines:
      if sum(1 for _ in lines) > _MAX_MAPPINGS:
        jax.clear_caches()
        gc.collect()
