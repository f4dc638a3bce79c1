"""What the machine offers."""

import os

from nfnets import machine


def test_available_cores_is_positive():
  assert 1 <= machine.available_cores() <= os.cpu_count()
