"""A run without faults, to compare with."""

import shutil

import pytest

from tests.faults import runs


@pytest.fixture(scope='session', name='whole')
def uninterrupted_run(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('whole') / 'run'
  runs.succeed(runs.run(*runs.TRAIN, f'--workdir={workdir}'))
  return workdir


@pytest.fixture(autouse=True)
def no_process_outlives_its_test():
  yield
  while runs.started:
    process = runs.started.pop()
    process.kill()
    process.wait()


@pytest.fixture
def copy(whole, tmp_path):
  """A copy of the finished run, to damage."""
  return shutil.copytree(whole, tmp_path / 'copy')
