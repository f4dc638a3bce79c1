"""The choice of a run's best checkpoint; test_convert.py reads networks."""

import shutil

import pytest

from nfnets import errors
from nfnets.inference import runs
from nfnets.training import checkpoint, workdir
from tests.weights import tiny


def test_best_step(tmp_path):
  saver = checkpoint.Checkpointer(tmp_path / workdir.CHECKPOINTS)
  state = {'params': tiny.params(), 'state': {}}
  for step, top1 in ((1, 0.9), (2, 0.8)):
    saver.save(step, state, {'eval/top1': top1, 'eval/loss': 1.0})
  saver.close()
  assert runs.best_step(tmp_path) == 1
  shutil.rmtree(tmp_path / workdir.CHECKPOINTS / '1')
  assert runs.best_step(tmp_path) == 2
  shutil.rmtree(tmp_path / workdir.CHECKPOINTS / '2')
  with pytest.raises(errors.UserError, match='no checkpoint contains'):
    runs.best_step(tmp_path)
