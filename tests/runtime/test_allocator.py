"""Programs are restarted once, and only those started by python -m."""

import os
import subprocess
import sys

import pytest

from nfnets.runtime import allocator

PROGRAM = """
import os
from nfnets import cli
if __name__ == '__main__':
  cli.run(lambda: print(os.getpid(), os.environ.get('GLIBC_TUNABLES')))
"""


def outcome(*command, **environment):
  base = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
  process = subprocess.Popen(
    [sys.executable, *command],
    stdout=subprocess.PIPE,
    text=True,
    env=base | environment,
  )
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 0
  pid, _, tunables = output.strip().partition(' ')
  # Still the same process, so its parent can wait for it.
  assert int(pid) == process.pid
  return tunables


def has_settings():
  name, _, version = os.confstr('CS_GNU_LIBC_VERSION').partition(' ')
  return name == 'glibc' and tuple(map(int, version.split('.'))) >= (2, 35)


@pytest.fixture
def program(tmp_path):
  """The environment with a module nfnets.asked next to the real ones."""
  (tmp_path / 'asked.py').write_text(PROGRAM)
  (tmp_path / 'sitecustomize.py').write_text(
    f'import nfnets; nfnets.__path__.append({str(tmp_path)!r})'
  )
  return {'PYTHONPATH': os.pathsep.join([str(tmp_path), os.getcwd()])}


@pytest.mark.skipif(not has_settings(), reason='another C library')
def test_a_module_of_ours_is_restarted(program):
  tunables = outcome('-m', 'nfnets.asked', **program)
  assert 'glibc.malloc.mmap_max=0' in tunables.split(':')
  assert 'glibc.malloc.hugetlb=1' in tunables.split(':')
  others = outcome(
    '-u', '-m', 'nfnets.asked', **program, GLIBC_TUNABLES='glibc.rtld.nns=4'
  )
  assert others == f'glibc.rtld.nns=4:{tunables}'


def test_the_users_settings_are_kept(program):
  setting = 'glibc.malloc.hugetlb=0'
  assert (
    outcome('-m', 'nfnets.asked', **program, GLIBC_TUNABLES=setting) == setting
  )


def test_other_programs_are_not_restarted(program):
  assert outcome('-c', PROGRAM, **program) == 'None'
  script = program['PYTHONPATH'].split(os.pathsep)[0] + '/asked.py'
  assert outcome(script, **program) == 'None'


@pytest.mark.skipif(not has_settings(), reason='another C library')
def test_a_child_can_run_without_the_settings(program, monkeypatch):
  ours = outcome('-m', 'nfnets.asked', **program)
  for users in ('', 'glibc.rtld.nns=4'):
    whole = ':'.join(filter(None, [users, ours]))
    monkeypatch.setenv('GLIBC_TUNABLES', whole)
    assert allocator.default_environment()['GLIBC_TUNABLES'] == users
