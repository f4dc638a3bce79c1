"""What a run leaves in shared memory, and what small files may claim."""

import os
import pathlib
import struct

import pytest

from tests.data import pictures
from tests.faults import runs

SHARED = pathlib.Path('/dev/shm')


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason='needs /dev/shm')
def test_evaluations_with_workers_leave_no_shared_memory(tmp_path):
  options = (
    '--config.data.num_workers=2',
    '--config.eval.every_steps=1',
    '--config.checkpoint.every_steps=1',
  )
  before = set(os.listdir(SHARED))
  process = runs.start(*runs.TRAIN, *options, f'--workdir={tmp_path}')
  counts = {}

  def last_step():
    for step in range(1, 13):
      if (tmp_path / 'checkpoints' / str(step)).exists():
        counts.setdefault(step, len(set(os.listdir(SHARED)) - before))
    return 11 in counts

  runs.wait_for(last_step, process)
  runs.succeed(runs.finish(process))
  left = len(set(os.listdir(SHARED)) - before)
  # Other programs of this machine may use it too, hence the margins.
  assert counts[11] - counts[3] < 10, counts
  assert left < 10


def test_pictures_that_claim_to_be_huge_are_unreadable(tmp_path):
  pictures.write_class_folders(tmp_path / 'p', range(60))
  gif = b'GIF89a' + struct.pack('<HH', 32000, 32000) + b'\xf0\0\0' + bytes(6)
  gif += b',' + struct.pack('<HHHH', 0, 0, 32000, 32000) + b'\0\2\2\x4c\1\0;'
  (tmp_path / 'p' / '0' / 'huge.gif').write_bytes(gif)
  header = b'IHDR' + struct.pack('>IIBBBBB', 60_000, 60_000, 8, 2, 0, 0, 0)
  png = b'\x89PNG\r\n\x1a\n\0\0\0\r' + header + bytes(4) + b'\0\0\0\0IEND'
  (tmp_path / 'p' / '1' / 'huge.png').write_bytes(png)
  os.mkfifo(tmp_path / 'p' / '2' / 'pipe.png')
  end = runs.run('nfnets.data', f'folder:{tmp_path}/p', cwd=tmp_path)
  runs.succeed(end)
  assert 'Traceback' not in end.err
  for name in ('huge.gif', 'huge.png', 'pipe.png'):
    assert name in end.out + end.err, end
