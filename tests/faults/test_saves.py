"""Kills, full disks and damaged checkpoints."""

import contextlib
import shutil
import signal
import subprocess
import time

import pytest

from tests.faults import runs
from tests.training import damage, disks

pytestmark = pytest.mark.slow


def test_killed_while_saving(whole, tmp_path):
  end = runs.broken('kill-save:8', *runs.OPTIONS, f'--workdir={tmp_path}')
  assert end.status == -signal.SIGKILL, end
  assert runs.checkpoints(tmp_path) == [4]
  end = runs.succeed(runs.run(*runs.TRAIN, f'--workdir={tmp_path}'))
  assert 'resuming from step 4' in end.out
  runs.assert_same_run(tmp_path, whole)
  assert not list((tmp_path / 'checkpoints').glob('*tmp*'))


@pytest.mark.parametrize('delay', [0.0, 0.05, 0.2])
def test_killed_near_a_save(whole, tmp_path, delay):
  """kill -9 comes `delay` seconds after the first checkpoint appears."""
  process = runs.start(*runs.TRAIN, f'--workdir={tmp_path}')
  folder = tmp_path / 'checkpoints'
  runs.wait_for(lambda: any(folder.glob('4*')), process)
  time.sleep(delay)
  process.kill()
  if runs.finish(process).status == 0:
    pytest.skip('the run had ended already')
  runs.succeed(runs.run(*runs.TRAIN, f'--workdir={tmp_path}'))
  runs.assert_same_run(tmp_path, whole)


def test_a_full_disk_under_the_checkpoints(whole, tmp_path):
  with disks.small(tmp_path / 'disk', megabytes=64) as disk:
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'checkpoints').symlink_to(disk)
    filler = disks.fill(disk)
    end = runs.run(*runs.TRAIN, f'--workdir={tmp_path}/run')
    runs.assert_one_line(end, f'{tmp_path}/run/checkpoints', 'space')
    assert not runs.checkpoints(tmp_path / 'run')
    filler.unlink()
    runs.succeed(runs.run(*runs.TRAIN, f'--workdir={tmp_path}/run'))
    assert runs.state(tmp_path / 'run') == runs.state(whole)


def replace_by_file(folder):
  folder.rename(folder.with_name('moved'))
  folder.write_text('')
  yield
  folder.unlink()
  folder.with_name('moved').rename(folder)


def mount_read_only(folder):
  mount = ['mount', '--bind', str(folder), str(folder)]
  try:
    subprocess.run(mount, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip('file systems cannot be mounted here')
  try:
    mount = ['mount', '-o', 'remount,ro,bind', str(folder)]
    subprocess.run(mount, check=True)
    yield
  finally:
    subprocess.run(['umount', '--lazy', str(folder)], check=True)


@pytest.mark.parametrize(
  'fault, place, reason',
  [
    (replace_by_file, '.', 'Not a directory'),
    (replace_by_file, 'checkpoints', 'Not a directory'),
    (mount_read_only, '.', 'Read-only file system'),
  ],
)
def test_the_workdir_becomes_unwritable(tmp_path, fault, place, reason):
  workdir = tmp_path / 'run'
  # Long enough not to end before the fault.
  options = ('--config.train.steps=4000', '--config.eval.every_steps=4000')
  process = runs.start(*runs.TRAIN, *options, f'--workdir={workdir}')
  runs.wait_for((workdir / 'checkpoints' / '4').exists, process)
  with contextlib.contextmanager(fault)(workdir / place):
    # Orbax may wait for five minutes.
    end = runs.finish(process, timeout=60)
    folder = f'cannot be written to {workdir}/checkpoints'
    runs.assert_one_line(end, folder, reason, 'Last good checkpoint: ')
  saved = runs.checkpoints(workdir)
  assert saved[-1] >= 4
  assert runs.state(workdir, saved[-1])


# training/test_checkpoint.py has all kinds of damage.
@pytest.mark.parametrize(
  'how', [damage.truncate, damage.empty, damage.garbled_manifest]
)
def test_the_latest_checkpoint_is_damaged(copy, whole, how):
  folder = copy / 'checkpoints'
  (folder / '12').rename(folder / '2')  # `damage` changes checkpoint 2
  how(folder)
  (folder / '2').rename(folder / '12')
  end = runs.succeed(runs.run(*runs.TRAIN, f'--workdir={copy}'))
  assert 'resuming from step 8' in end.out
  assert '12' in end.err and 'Traceback' not in end.err
  runs.assert_same_run(copy, whole)


def test_a_flipped_bit_in_the_latest_checkpoint(copy, whole):
  largest = max(
    damage.files_of(copy / 'checkpoints', 12), key=lambda p: p.stat().st_size
  )
  data = bytearray(largest.read_bytes())
  data[len(data) // 2] ^= 1
  largest.write_bytes(data)
  end = runs.succeed(runs.run(*runs.TRAIN, f'--workdir={copy}'))
  assert 'resuming from step 8' in end.out
  runs.assert_same_run(copy, whole)


def test_all_checkpoints_are_damaged(copy):
  for step in (4, 8, 12):
    shutil.rmtree(copy / 'checkpoints' / str(step) / 'state')
  end = runs.run(*runs.TRAIN, f'--workdir={copy}')
  runs.assert_one_line(end, 'checkpoints')
  assert len(list((copy / 'checkpoints').iterdir())) == 3


def test_other_folders_beside_the_checkpoints(copy, whole):
  folder = copy / 'checkpoints'
  shutil.rmtree(folder / '12')
  for name in ('16', '20', '12.orbax-checkpoint-tmp', 'mine', '-1', '0x10'):
    (folder / name).mkdir()
  (folder / '20' / 'notes.txt').write_text('mine')
  (folder / '24').write_text('a file')
  runs.succeed(runs.run(*runs.TRAIN, f'--workdir={copy}'))
  runs.assert_same_run(copy, whole)
  assert any(folder.rglob('notes.txt'))


def test_the_best_checkpoint_stays_beside_the_newest(tmp_path):
  options = (
    *runs.TRAIN,
    f'--workdir={tmp_path}',
    '--config.checkpoint.keep=1',
    '--config.checkpoint.every_steps=1',
    '--config.eval.every_steps=1',
  )
  process = runs.start(*options)
  runs.wait_for(lambda: (tmp_path / 'checkpoints' / '6').exists(), process)
  process.kill()
  runs.finish(process)
  runs.succeed(runs.run(*options))
  scores = runs.metrics(tmp_path, 'eval/ema_top1')['eval/ema_top1']
  best = max(scores, key=lambda step: (scores[step], -step))
  kept = runs.checkpoints(tmp_path)
  assert 12 in kept and len(kept) <= 2
  assert max(scores[step] for step in kept) == scores[best]


@pytest.mark.parametrize('step', [1, 5, 11])
def test_resumed_at_any_step(whole, tmp_path, step):
  end = runs.broken(
    f'signal-step:{signal.SIGTERM}:{step}',
    *runs.OPTIONS,
    f'--workdir={tmp_path}',
  )
  assert end.status == 128 + signal.SIGTERM, end
  assert max(runs.checkpoints(tmp_path)) == step
  runs.succeed(runs.run(*runs.TRAIN, f'--workdir={tmp_path}'))
  runs.assert_same_run(tmp_path, whole)
