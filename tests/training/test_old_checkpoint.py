"""A checkpoint of an earlier version resumes to the same parameters.

See golden/README.md: it was written when the names of the optimizer's arrays
still contained their positions in the chain ('opt_state/2/trace/...'). The run
has no dropout and no stochastic depth: their masks have changed since.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np

from nfnets import models
from nfnets.optim import optimizer as optimizer_lib
from nfnets.optim import schedules
from nfnets.training import checkpoint, manifest
from nfnets.training import state as state_lib
from tests import helpers

ROOT = pathlib.Path(__file__).parent.parent.parent
OLD = helpers.GOLDEN / 'checkpoint'
NETWORK = {'width': 0.25, 'group_size': 0, 'depth': (1, 1, 1, 1)}


def flat(params):
  return {f'{m}/{name}': x for m, t in params.items() for name, x in t.items()}


def test_every_array_is_restored(tmp_path):
  shutil.copytree(OLD / '3', tmp_path / '3')
  # The digits have ten classes.
  model = models.create_model('nf_resnet50', 10, **NETWORK)
  optimizer = optimizer_lib.make_optimizer(schedules.warmup_cosine(0.1, 1, 6))
  target = jax.eval_shape(
    lambda: state_lib.create_train_state(
      model, optimizer, jax.random.key(0), image_size=32
    )
  )
  checkpointer = checkpoint.Checkpointer(tmp_path)
  restored = checkpointer.restore_latest(target)
  checkpointer.close()
  assert restored.step == restored.state.step == 3
  assert restored.metrics['eval/count'] == 360
  written = manifest.parse((OLD / '3/manifest/metadata').read_bytes())
  old = {name: leaf['sha256'] for name, leaf in written['leaves'].items()}
  assert 'opt_state/2/trace/NF_ResNet/~/linear/w' in old
  new = manifest.make(
    manifest.host_copy(restored.state),
    step=3,
    metrics={},
    config=None,
    dataset=None,
  )
  assert {name: leaf['sha256'] for name, leaf in new['leaves'].items()} == {
    manifest.stable_name(name): digest for name, digest in old.items()
  }


def test_the_program_resumes_to_the_recorded_parameters(tmp_path):
  shutil.copytree(OLD / '3', tmp_path / 'checkpoints' / '3')
  # The program refuses other settings than these.
  shutil.copy(OLD / 'config.json', tmp_path)
  settings = {f'model.{k}': v for k, v in NETWORK.items()} | {
    'model.name': 'nf_resnet50',
    'model.depth': '1,1,1,1',
    'model.drop_rate': 0,
    'model.stochdepth_rate': 0,
    'train.batch_size': 32,
    'train.steps': 6,
    'eval.every_steps': 3,
    'checkpoint.every_steps': 3,
    'optimizer.warmup_epochs': 0,
    'optimizer.warmup_steps': 1,
  }
  run = subprocess.run(
    [
      *(sys.executable, '-m', 'nfnets.experiment', f'--workdir={tmp_path}'),
      '--config=experiments/digits.py',
      *(f'--config.{name}={value}' for name, value in settings.items()),
    ],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'},
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stderr
  weights = checkpoint.read_weights(tmp_path / 'checkpoints', 6, ema=False)
  params = flat(weights.params)
  with np.load(OLD / 'params_6.npz') as file:
    expected = dict(file)
  assert params.keys() == expected.keys()
  for name, value in expected.items():
    # Equal bit for bit on the machine that wrote them.
    np.testing.assert_allclose(
      params[name],
      value,
      rtol=0,
      atol=helpers.RTOL_REDUCTION * np.abs(value).max(),
      err_msg=name,
    )
