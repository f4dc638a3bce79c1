"""Worker processes obey the main process alone, and do not outlive it."""

import multiprocessing
import os
import signal
import threading
from typing import Any


def start(index: int, count: int) -> None:
  """Is called first in every worker.

  Ctrl-C and a batch system's SIGTERM reach all processes of a run. The main
  process then saves, for which it may still want a batch, and ends the workers.
  If it is killed, which it cannot announce, they notice and end themselves.

  Args:
    index: of the worker; any.
    count: of workers; any.
  """
  del index, count
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  if parent := multiprocessing.parent_process():
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
  parent.join()
  # At once, whatever the other threads wait for.
  os._exit(1)
