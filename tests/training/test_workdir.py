import errno
import fcntl
import os
import resource
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


@pytest.mark.parametrize(
  'number', [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL]
)
def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog, number):
  def flock(file, how):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(fcntl, 'flock', flock)
  with workdir.claim(tmp_path) as path:
    assert f'process {os.getpid()} on' in (path / '.lock').read_text()
  (warning,) = caplog.messages
  assert warning == (
    f'workdir {tmp_path} cannot be locked ({os.strerror(number)}): make sure'
    ' that no other run uses it'
  )


def test_a_lock_that_is_held_is_an_error_everywhere(tmp_path, monkeypatch):
  def flock(file, how):
    raise OSError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))

  monkeypatch.setattr(fcntl, 'flock', flock)
  with pytest.raises(errors.UserError, match='in use by another run .unknown'):
    with workdir.claim(tmp_path):
      pass


@pytest.mark.parametrize(
  'name, kind',
  [
    ('checkpoints', 'folder'),
    ('tensorboard', 'folder'),
    ('metrics.jsonl', 'file'),
    ('config.json', 'file'),
    ('.lock', 'file'),
  ],
)
@pytest.mark.parametrize('is_link', [False, True])
def test_a_member_of_the_wrong_kind(tmp_path, name, kind, is_link):
  path = tmp_path / name
  if is_link:
    path.symlink_to(tmp_path / 'nowhere' / 'file')
  elif kind == 'folder':
    path.touch()
  else:
    path.mkdir()
  with pytest.raises(errors.UserError) as caught:
    with workdir.claim(tmp_path):
      pass
  assert str(caught.value) == (
    f'{path} is not a {kind}: move it away, or choose another workdir with'
    ' --workdir'
  )
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('name', ['checkpoints', 'metrics.jsonl', '.lock'])
def test_a_member_that_may_not_be_written(tmp_path, monkeypatch, name):
  (tmp_path / name).mkdir() if name == 'checkpoints' else (
    tmp_path / name
  ).touch()
  # As for another user; root may write everything.
  monkeypatch.setattr(os, 'access', lambda path, mode: False)
  with pytest.raises(errors.UserError, match=f'{name} cannot be written'):
    with workdir.claim(tmp_path):
      pass


def test_a_full_disk(tmp_path):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
  try:
    with pytest.raises(errors.UserError, match='cannot be written .File too l'):
      with workdir.claim(tmp_path):
        pass
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize('bad', ['[', '*', '?', '\\', '\udcff'])
@pytest.mark.parametrize('name', ['run{}1]', 'a{}b/run'])
def test_paths_that_checkpoints_cannot_have(tmp_path, name, bad):
  with pytest.raises(errors.UserError) as caught:
    with workdir.claim(tmp_path / name.format(bad)):
      pass
  message = str(caught.value)
  assert 'cannot use a path with' in message and '--workdir' in message
  assert message.isprintable()
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['run:cat:', 'a b', '50%', '\u732b', 'x]{}#$'])
def test_unusual_paths(tmp_path, name):
  with workdir.claim(tmp_path / name) as path:
    assert path.is_dir()
