"""Batches made by worker processes: the same batches, the same errors."""

import contextlib
import gc
import os
import signal
import time

import numpy as np
import psutil
import pytest

from nfnets import errors
from nfnets.data import pipeline, sources
from tests.data import pictures


@pytest.fixture
def folder(tmp_path):
  return pictures.write_class_folders(tmp_path, range(60), '.jpg')


def train(folder, **reading):
  source = sources.load_source(f'folder:{folder[0].parent.parent}', 'all')
  return pipeline.train_batches(
    source,
    batch_size=8,
    image_size=16,
    seed=1,
    reading=pipeline.Reading(num_threads=1, **reading),
  )


def workers():
  return [
    child
    for child in psutil.Process().children()
    if 'spawn_main' in ' '.join(child.cmdline())
    or '--multiprocessing-fork' in child.cmdline()
  ]


def assert_same(one, other):
  for key in ('image', 'label', 'mask'):
    np.testing.assert_array_equal(one[key], other[key])
    assert type(other[key]) is np.ndarray


def test_workers_make_and_report_the_same(folder):
  folder[7].write_bytes(b'not an image')
  here = train(folder)
  there = train(folder, num_workers=1)
  iterator = there.iterate(2)
  for k in range(2, 18):
    assert_same(here[k], next(iterator))
  iterator.close()
  assert there.unreadable == here.unreadable
  assert list(there.unreadable) == [str(folder[7])]
  assert not workers()


def test_killed_worker_is_an_error(folder):
  iterator = train(folder, num_workers=1).iterate()
  next(iterator)
  (worker,) = workers()
  os.kill(worker.pid, signal.SIGKILL)
  with pytest.raises(errors.UserError, match='worker died .exit status -9.'):
    for _ in range(1000):
      next(iterator)
  with pytest.raises(StopIteration):
    next(iterator)


def test_worker_errors_keep_their_message(folder):
  for path in folder:
    path.write_bytes(b'not an image')
  with contextlib.closing(
    train(folder, num_workers=1, strict=True).iterate()
  ) as iterator:
    with pytest.raises(errors.UserError, match=r'\.jpg: not an image, or a '):
      next(iterator)


@pytest.mark.slow
def test_number_of_workers_does_not_change_the_batches(folder):
  here = train(folder)
  expected = [here[k] for k in range(100)]
  for num_workers in (1, 2):
    with contextlib.closing(
      train(folder, num_workers=num_workers).iterate()
    ) as iterator:
      for k in range(100):
        assert_same(expected[k], next(iterator))


@pytest.mark.slow
@pytest.mark.parametrize('num_workers', [1, 2])
def test_evaluations_leave_no_shared_memory(folder, num_workers):
  source = sources.load_source(f'folder:{folder[0].parent.parent}', 'all')
  batches = pipeline.eval_batches(
    source,
    batch_size=8,
    image_size=16,
    reading=pipeline.Reading(num_threads=1, num_workers=num_workers),
  )
  # Other programs of this machine use the folder too.
  before = set(os.listdir('/dev/shm'))
  gc.disable()  # collection happens at no particular time
  try:
    for _ in range(3):
      with contextlib.closing(batches.iterate()) as iterator:
        assert sum(int(batch['mask'].sum()) for batch in iterator) == 60
      with pytest.raises(StopIteration):
        next(iterator)
  finally:
    gc.enable()
  del iterator
  # Grain unlinks the last arrays in a thread.
  deadline = time.monotonic() + 10
  while set(os.listdir('/dev/shm')) - before:
    assert time.monotonic() < deadline, set(os.listdir('/dev/shm')) - before
    time.sleep(0.05)
  assert not workers()
