"""Fine-tuning runs: what is frozen stays, and a resumed run is exact."""

import json
import shutil

import jax
import numpy as np
import pytest

from nfnets import weights
from nfnets.experiment import build, train
from nfnets.experiment import config as config_lib
from nfnets.training import checkpoint
from tests.data import pictures
from tests.experiment import tiny
from tests.training import tiny as training_tiny


@pytest.fixture
def config(tmp_path):
  config = tiny.make_config(32)
  folder = tmp_path / 'pictures'
  pictures.write_class_folders(folder, range(200))
  config.dataset = f'folder:{folder}'
  config.init_from = str(tmp_path / 'start.safetensors')
  config.data.eval_split = 'valid'
  config.model.name = 'resnet50'
  config.optimizer.learning_rate_batch = 0
  config.optimizer.learning_rate = 0.01
  config.optimizer.clipping = 0.01
  config.optimizer.weight_decay = 0.1
  config.optimizer.warmup_epochs = 0.0
  config.train.batch_size = 32
  config.train.steps = 4
  config.train.ema_decay = 0.9
  config.checkpoint.every_steps = 2
  config.eval.every_steps = 4
  config.log.every_steps = 1
  return config


def final_weights(workdir, ema=False):
  saved = checkpoint.read_weights(workdir / 'checkpoints', ema=ema)
  return saved.params, saved.state


@pytest.mark.slow
@pytest.mark.parametrize(
  'changes',
  [
    {
      'freeze': 'stage2',
      'optimizer.name': 'lamb',
      'optimizer.layer_decay': 0.75,
      'train.class_weights': 'balanced',
      'train.accumulation': 2,
    },
    {
      'freeze': 'all',
      'optimizer.name': 'adamw',
      'data.sampling': 'balanced',
      'train.sam_rho': 0.05,
    },
  ],
)
def test_a_resumed_run_is_exact_and_frozen_parts_stay(
  config, tmp_path, changes
):
  for name, value in changes.items():
    section, _, key = name.rpartition('.')
    (config[section] if section else config)[key] = value
  model = build.make_model(config, 10)
  images = np.random.default_rng(0).standard_normal((8, 32, 32, 3))
  images = images.astype(np.float32)
  params, state = model.init(jax.random.key(1), images)
  # Without statistics of any batch, frozen batch normalization explodes.
  _, state = jax.jit(model.apply, static_argnums=4)(
    params, state, None, images, True
  )
  weights.save(
    config.init_from,
    params,
    state,
    config.model.name,
    width=config.model.width,
    depth=config.model.depth,
  )
  whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
  assert train.train(config, whole) == 0
  shutil.copytree(whole, resumed)
  shutil.rmtree(resumed / 'checkpoints' / '4')
  assert train.train(config, resumed) == 0
  for ema in (False, True):
    new, statistics = final_weights(whole, ema)
    training_tiny.assert_trees_equal(
      final_weights(resumed, ema), (new, statistics)
    )
    moved = {
      module.split('/')[2]
      for module, tensors in new.items()
      for key, x in tensors.items()
      if np.any(x != np.asarray(params[module][key]))
    }
    kept = {
      module.split('/')[2]
      for module, tensors in statistics.items()
      if np.all(tensors['average'] == np.asarray(state[module]['average']))
    }
    first = ['initial_conv', 'res_block_v2', 'res_block_v2_1']
    later = ['res_block_v2_2', 'res_block_v2_3', 'final_bn']
    if config.freeze == 'all':
      assert moved == {'linear'} and kept == {*first, *later} - {first[0]}
    else:
      assert moved == {*later, 'linear'} and kept == set(first[1:])
  lines = (whole / 'metrics.jsonl').read_text().splitlines()
  assert any(json.loads(x).get('train/agc_clipped') for x in lines)
  different = config.copy_and_resolve_references()
  different.optimizer.name = 'sgd'
  assert config_lib.differences(
    config_lib.flatten(config), config_lib.flatten(different)
  ) == [f"optimizer.name: {config.optimizer.name!r} -> 'sgd'"]
