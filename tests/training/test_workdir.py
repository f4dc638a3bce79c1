import os
import signal
import subprocess
import sys

import pytest

from nfnets import errors
from nfnets.training import workdir

HOLD = """
import sys, time
from nfnets.training import workdir
with workdir.claim(sys.argv[1]):
  print('held', flush=True)
  time.sleep(60)
"""


def test_creates_the_directory_and_releases_it(tmp_path):
  for _ in range(2):
    with workdir.claim(tmp_path / 'a' / 'b') as path:
      assert path.is_dir() and path.is_absolute()


def test_a_second_run_in_the_workdir_is_refused(tmp_path):
  holder = subprocess.Popen(
    [sys.executable, '-c', HOLD, str(tmp_path)], stdout=subprocess.PIPE
  )
  try:
    assert holder.stdout.readline() == b'held\n'
    with pytest.raises(errors.UserError) as caught:
      with workdir.claim(tmp_path):
        pass
    assert f'in use by another run (process {holder.pid} on' in str(
      caught.value
    )
  finally:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
  # The system released the lock of the killed run.
  with workdir.claim(tmp_path):
    pass


def test_a_path_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match='file/run cannot be written'):
    with workdir.claim(tmp_path / 'file' / 'run'):
      pass


@pytest.mark.skipif(os.geteuid() == 0, reason='root can write anywhere')
def test_a_directory_without_permission(tmp_path):
  tmp_path.chmod(0o500)
  with pytest.raises(errors.UserError, match='Permission denied'):
    with workdir.claim(tmp_path):
      pass
