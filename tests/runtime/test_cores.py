"""The CPU cores of this machine."""

import os

from nfnets.runtime import cores


def test_available_is_positive():
  assert 1 <= cores.available() <= os.cpu_count()
