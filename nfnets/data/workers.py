"""Worker processes, which only the main process stops, or its end."""

import multiprocessing
import os
import signal
import threading
from multiprocessing import process


def start(index: int, count: int) -> None:
  """Initializes a worker; runs before anything else in it.

  Ctrl-C, a batch system's SIGTERM and a closing terminal's SIGHUP reach all
  processes of a run. Workers ignore them: the main process then saves, may need
  another batch to do so, and ends the workers. If the main process is killed
  and cannot end them, they notice and exit.

  Args:
    index: the worker's index; unused.
    count: the number of workers; unused.
  """
  del index, count
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
  if parent := multiprocessing.parent_process():
    threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: process.BaseProcess) -> None:
  parent.join()
  # Immediately: other threads may be waiting for something.
  os._exit(1)
