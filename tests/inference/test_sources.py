"""Any source of weights becomes a network."""

import pathlib

import jax
import numpy as np
import pytest
import sklearn.datasets

import nfnets
from nfnets import errors, weights
from nfnets.experiment import config as config_lib
from nfnets.training import checkpoint
from nfnets.training import workdir as workdir_lib

_PHOTOS = pathlib.Path(sklearn.datasets.__file__).parent / 'images'


@pytest.fixture
def workdir(tmp_path, weights_file):
  """Returns a run whose best checkpoint, 1, holds the weights of the file."""
  settings = config_lib.flatten(config_lib.base())
  settings |= {'data.eval_preset': 'deepmind', 'data.eval_size': 32}
  settings |= {'model.width': 0.125, 'model.depth': [1, 1, 1, 1]}
  settings |= {'data.image_size': 24, 'model.group_size': 16}
  dataset = {'name': 'folder:/gone', 'train_images': 90, 'eval_images': 10}
  dataset['class_names'] = [f'name {i}' for i in range(10)]
  saver = checkpoint.Checkpointer(
    tmp_path / 'run' / workdir_lib.CHECKPOINTS, config=settings, dataset=dataset
  )
  params = weights.load_model(weights_file).params
  other = jax.tree.map(lambda x: x * np.float32(0.5), params)
  for step, ema, top1 in ((1, params, 0.9), (2, other, 0.8)):
    saved = {'params': other, 'state': {}, 'ema_params': ema}
    saver.save(step, saved, {'eval/top1': top1, 'eval/loss': 1.0})
  saver.close()
  return tmp_path / 'run'


def test_workdir(weights_file, workdir):
  def probabilities(source, **options):
    return nfnets.load(source, **options).predict(_PHOTOS).probabilities

  best = probabilities(workdir, best=True)
  np.testing.assert_array_equal(best, probabilities(weights_file))
  assert not np.allclose(probabilities(workdir), best)
  assert nfnets.load(workdir).class_names[9] == 'name 9'


def test_arguments_for_the_other_kind_of_source_are_refused(
  weights_file, workdir
):
  with pytest.raises(errors.UserError, match='not the workdir of'):
    nfnets.load(weights_file, best=True)
  with pytest.raises(errors.UserError, match='--model: .* omit it'):
    nfnets.load(workdir, 'nfnet_f0')


def test_hub_folders_are_not_taken_for_workdirs(tmp_path, weights_file):
  folder = tmp_path / 'hub'
  folder.mkdir()
  (folder / 'model.safetensors').write_bytes(weights_file.read_bytes())
  assert nfnets.load(folder).class_names[9] == 'name 9'
