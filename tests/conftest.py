"""Settings for all tests, set before JAX starts."""

import os
import signal

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax

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
