"""The networks that --mode=eval measures; test_evaluate.py has the results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import errors, weights
from nfnets.experiment import config as config_lib
from nfnets.experiment import networks
from nfnets.training import checkpoint
from nfnets.training import state as state_lib
from tests.weights import tiny


def saved_config():
  config = config_lib.base()
  config.model.name = tiny.NAME
  options = {k: tiny.OPTIONS[k] for k in ('width', 'depth', 'group_size')}
  config.model.update(options)
  config.train.ema_decay = 0.9
  return config


@pytest.fixture
def run(tmp_path):
  """A run whose step 7 was better than step 8."""
  dataset = {'name': 'folder:/gone', 'train_images': 90, 'eval_images': 10}
  dataset['class_names'] = [f'name {i}' for i in range(10)]
  saver = checkpoint.Checkpointer(
    tmp_path / 'run' / 'checkpoints',
    config=config_lib.flatten(saved_config()),
    dataset=dataset,
  )
  for step, top1 in ((7, 0.9), (8, 0.8)):
    params, average = (
      jax.tree.map(lambda x, add=add: x + np.float32(add), tiny.params())
      for add in (step, step / 10)
    )
    state = state_lib.TrainState(params, {}, (), average, {}, jnp.int32(step))
    saver.save(step, state, {'eval/top1': top1, 'eval/loss': 1.0})
  saver.close()
  return tmp_path / 'run'


@pytest.mark.parametrize('best, step', [(False, 8), (True, 7)])
def test_a_workdir_has_its_own_network(run, best, step):
  other = config_lib.base()
  other.model.name = 'nf_resnet50'
  other.train.ema_decay = 0.0
  found = networks.read(other, str(run), best=best)
  assert (found.run, found.step) == (run, step)
  assert found.model.config.name == tiny.NAME
  assert found.class_names[9] == 'name 9'
  assert found.names == {
    '': f'weights of step {step}',
    'ema_': f'averaged weights of step {step}',
  }
  for name, add in (('params', step), ('ema_params', step / 10)):
    jax.tree.map(
      lambda x, y, add=add: np.testing.assert_array_equal(
        x, y + np.float32(add)
      ),
      getattr(found.state, name),
      tiny.params(),
    )


def test_best_is_for_workdirs(tmp_path):
  tiny.save(tmp_path / 'file')
  with pytest.raises(errors.UserError, match='not the workdir of a training'):
    networks.read(saved_config(), str(tmp_path / 'file'), best=True)


def test_a_folder_without_a_run_is_one_line(tmp_path):
  with pytest.raises(errors.UserError, match='no checkpoint to read in'):
    networks.read(saved_config(), str(tmp_path))


def test_a_run_without_settings_is_one_line(tmp_path):
  state = state_lib.TrainState(tiny.params(), {}, (), {}, {}, jnp.int32(7))
  saver = checkpoint.Checkpointer(tmp_path / 'checkpoints')
  saver.save(7, state)
  saver.close()
  with pytest.raises(errors.UserError, match='evaluate it with --config'):
    networks.read(saved_config(), str(tmp_path))


def test_a_file_may_hold_another_model_only_among_several(tmp_path):
  other = config_lib.base()
  other.model.name = 'nf_resnet50'
  path = str(tmp_path / 'file')
  tiny.save(tmp_path / 'file')
  found = networks.read(other, path, any_model=True)
  assert (found.model.config.name, found.run) == (tiny.NAME, None)
  with pytest.raises(errors.UserError, match='nf_resnet50'):
    networks.read(other, path)


def test_a_backbone_cannot_be_evaluated(tmp_path):
  path = tmp_path / 'backbone'
  options = {**tiny.OPTIONS, 'num_classes': 0}
  weights.save(path, tiny.params(num_classes=0), {}, tiny.NAME, **options)
  with pytest.raises(errors.UserError, match='a backbone without a classifier'):
    networks.read(saved_config(), str(path), any_model=True)
