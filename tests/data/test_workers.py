import os
import signal
import subprocess
import sys
import time

import psutil

from tests.data import pictures

SCRIPT = """
import sys, time
from nfnets.data import pipeline, sources
if __name__ == '__main__':
  source = sources.load_source('folder:' + sys.argv[1], 'all')
  batches = pipeline.train_batches(
    source,
    batch_size=4,
    image_size=8,
    seed=0,
    reading=pipeline.Reading(num_workers=2, num_threads=1),
  )
  iterator = batches.iterate()
  next(iterator)  # The second batch is the second worker's: both are running.
  print(next(iterator)['label'].shape, flush=True)
  for line in sys.stdin:
    for _ in range(20):
      next(iterator)
    print('alive', flush=True)
"""


def start(tmp_path):
  pictures.write_class_folders(tmp_path / 'images', range(20))
  (tmp_path / 'script.py').write_text(SCRIPT)
  main = subprocess.Popen(
    [sys.executable, tmp_path / 'script.py', tmp_path / 'images'],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
  )
  assert main.stdout.readline() == '(4,)\n'
  children = psutil.Process(main.pid).children()
  workers = [c for c in children if '--multiprocessing-fork' in c.cmdline()]
  assert len(workers) == 2
  return main, workers


def test_workers_ignore_signals_that_reach_all_processes(tmp_path):
  main, workers = start(tmp_path)
  for worker in workers:
    worker.send_signal(signal.SIGINT)
    worker.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGHUP)
  main.stdin.write('continue\n')
  main.stdin.flush()
  assert main.stdout.readline() == 'alive\n'
  main.stdin.close()
  assert main.wait(60) == 0
  psutil.wait_procs(workers, 60)
  assert not any(worker.is_running() for worker in workers)


def test_workers_exit_when_the_main_process_is_killed(tmp_path):
  main, workers = start(tmp_path)
  main.kill()
  main.wait()
  deadline = time.monotonic() + 60
  while any(map(psutil.Process.is_running, workers)):
    assert time.monotonic() < deadline
    time.sleep(0.05)
