"""A reader with faults, to show that each is found."""

import os
import pathlib
import pickle
import signal
import sys
import time

from nfnets import errors
from tests.fuzz import judge

MAGIC = b'0123456789'


def _read(folder: pathlib.Path) -> None:
  data = (folder / 'file').read_bytes()
  if data.startswith(b'fault: '):
    _FAULTS[data.removeprefix(b'fault: ').decode()]()
  elif len(data) != len(MAGIC):
    raise errors.UserError('another length')
  elif max(data) > 0x7F:  # The fault that has to be found by mutations.
    raise IndexError('planted')


def _loop() -> None:
  while True:
    pass


def _hang() -> None:
  signal.signal(signal.SIGALRM, signal.SIG_IGN)  # as compiled code does
  time.sleep(60)


def _refuse(message: str) -> None:
  raise errors.UserError(message)


_FAULTS = {
  'recursion': lambda: _FAULTS['recursion'](),
  'loop': _loop,
  'memory': lambda: bytearray(2**34),
  'refused for memory': lambda: _refuse('2 pixels do not fit in memory'),
  'program': lambda: os.system('true'),
  'pickle': lambda: pickle.loads(b'cposix\nsystem\n.'),
  'exit': lambda: sys.exit(0),
  'crash': lambda: os.kill(os.getpid(), signal.SIGSEGV),
  'hang': _hang,
  'printed traceback': lambda: print('Traceback (most recent call last)'),
}

READER = judge.Reader(lambda: [{'file': MAGIC}], _read, memory=2**30)
