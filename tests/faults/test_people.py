"""Settings, folders and weights that do not fit."""

import os
import pickle

import numpy as np
import pytest

from tests.faults import runs


@pytest.mark.parametrize(
  'options, expected',
  [
    (('--config.optimizer.learning_rte=1',), 'learning_rate'),
    (('--config.train.batch_size=many',), 'many'),
    (('--config.train.batch_size=1.5',), '1.5'),
    (('--config=',), '--config'),
    (('--config=experiments/digit.py',), 'experiments/digit.py'),
    (('--config.model.name=nfnet_g0',), 'nfnet_g0'),
    (('--config.train.accumulation=5',), 'use 95 or 100'),
    (('--workdir=/proc/nfnets',), '/proc/nfnets'),
  ],
)
def test_settings_that_mean_nothing(tmp_path, options, expected):
  end = runs.run(*runs.TRAIN, f'--workdir={tmp_path}/run', *options)
  assert end.status in (1, 2), end
  assert expected in end.err and 'Traceback' not in end.err
  assert 'step' not in end.out
  assert not (tmp_path / 'run').exists()


def test_a_batch_that_does_not_divide_by_the_devices(tmp_path):
  end = runs.run(*runs.TRAIN, f'--workdir={tmp_path}/run', devices=5)
  runs.assert_one_line(end, '96', 'use 95 or 100')


@pytest.mark.slow
@pytest.mark.parametrize(
  'option, shown',
  [
    ('optimizer.momentum=0.8', 'optimizer.momentum: 0.9 -> 0.8'),
    ('model.depth=1,1,2,1', 'model.depth'),
    ('train.batch_size=48', 'train.batch_size: 96 -> 48'),
    ('seed=1', 'seed: 0 -> 1'),
  ],
)
def test_other_settings_than_the_run_in_the_workdir(whole, option, shown):
  before = runs.state(whole)
  end = runs.run(*runs.TRAIN, f'--workdir={whole}', f'--config.{option}')
  runs.assert_one_line(end, shown, str(whole))
  assert runs.state(whole) == before


@pytest.mark.slow
def test_two_runs_in_one_workdir(tmp_path):
  more = '--config.train.steps=100000'
  first = runs.start(*runs.TRAIN, more, f'--workdir={tmp_path}')
  runs.wait_for((tmp_path / 'checkpoints' / '4').exists, first)
  end = runs.run(*runs.TRAIN, more, f'--workdir={tmp_path}')
  runs.assert_one_line(end, str(tmp_path))
  first.terminate()
  assert runs.finish(first).status == 143


class Harm:
  """Creates a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.system, (f'touch {self.path}',)


def write_npy(path, harm):
  np.save(path, np.array([harm], object), allow_pickle=True)


def write_npz(path, harm):
  np.savez(path, w=np.array([harm], object))


def write_pickle(path, harm):
  path.write_bytes(pickle.dumps({'m': {'w': harm}}))


@pytest.mark.parametrize('write', [write_npy, write_npz, write_pickle])
def test_weights_that_would_execute_something(tmp_path, write):
  path, touched = tmp_path / 'weights.npz', tmp_path / 'touched'
  write(tmp_path / 'w', Harm(touched))
  written = next(tmp_path.glob('w*'))
  written.rename(path)
  end = runs.run('nfnets.convert', str(path), f'{tmp_path}/out', '--to=nfnets')
  assert end.status == 1 and 'Traceback' not in end.err, end
  assert str(path) in end.err
  assert not touched.exists()


@pytest.mark.slow
def test_weights_of_another_network(whole, tmp_path):
  path = tmp_path / 'own.safetensors'
  runs.succeed(runs.run('nfnets.convert', str(whole), str(path), '--to=nfnets'))
  eval_ = ('nfnets.experiment', *runs.OPTIONS, '--mode=eval')
  known = runs.run(*eval_, f'--weights={path}')
  assert 'on 360 images' in runs.succeed(known).out
  for option in ('name=nfnet_f1', 'depth=1,1,1,2', 'width=0.125'):
    end = runs.run(*eval_, f'--weights={path}', f'--config.model.{option}')
    runs.assert_one_line(end, str(path))
