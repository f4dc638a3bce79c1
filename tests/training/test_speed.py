import time

import pytest

from nfnets.training import speed


@pytest.fixture
def now(monkeypatch):
  current = [0.0]
  monkeypatch.setattr(time, 'perf_counter', lambda: current[0])
  return current


def test_steps_read_in_an_instant_are_not_fast(now):
  clock = speed.Clock()
  for step in range(1, 13):
    now[0] = 2.0 * step
    clock.tick(step + 2)  # two more are finished when this one is read
  assert clock.steps_per_second == 0.5
  clock.restart()
  for step in (13, 14):  # read before an evaluation
    now[0] += 1e-6
    clock.tick(step)
  assert clock.steps_per_second == 0.5
  clock.restart()
  clock.skip(-1e-6)
  for step in (15, 16):
    now[0] = 2.0 * (step - 2)
    clock.tick(step)
  assert clock.steps_per_second == pytest.approx(0.5)


def test_neither_the_first_step_nor_a_pause_counts(now):
  clock = speed.Clock()
  now[0] = 100.0
  clock.skip(50.0)
  clock.tick(1)
  assert clock.steps_per_second == 0
  now[0] += 30.0
  clock.skip(28.0)
  clock.tick(5)
  assert clock.steps_per_second == 2.0
