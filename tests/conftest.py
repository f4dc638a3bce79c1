"""Strict settings for all tests, set before JAX starts."""

import os
import signal

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax

from nfnets.runtime import compilation

# As in the programs; saves a fifth of the tests' time.
compilation.collect_garbage_rarely()
jax.config.update('jax_num_cpu_devices', 4)
jax.config.update('jax_numpy_rank_promotion', 'raise')
# Under nohup it is ignored, and the tests of SIGHUP would fail.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
