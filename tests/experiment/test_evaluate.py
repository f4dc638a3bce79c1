"""--mode=eval, in process: the printed accuracy is that of the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import errors, weights
from nfnets.experiment import build, evaluate, inputs, networks
from nfnets.experiment import config as config_lib
from nfnets.training import checkpoint
from nfnets.training import state as state_lib

MODEL = 'nf_resnet50'
NARROW = {'width': 0.0625, 'depth': (1, 1, 1, 1)}
# The default of train.dtype is bfloat16.
FLOAT32 = (
  'evaluating in float32: config.train.dtype=bfloat16 applies to training only'
)


class CountedSource:
  """A source that records the examples that are read."""

  def __init__(self, source):
    self.source = source
    self.read = []

  def __getattr__(self, name):
    return getattr(self.source, name)

  def __len__(self):
    return len(self.source)

  def __getitem__(self, index):
    self.read.append(index)
    return self.source[index]


@pytest.fixture
def config():
  config = config_lib.base()
  config.dataset = 'digits'
  config.model.name = MODEL
  config.model.update(NARROW)
  config.data.image_size = config.data.eval_size = 32
  config.data.eval_preset = 'timm'
  config.eval.batch_size = 100
  config.train.ema_decay = 0.9
  return config


@pytest.fixture
def model(config):
  return build.make_model(config, 10)


def random_params(model, seed):
  images = jnp.zeros((1, 32, 32, 3))
  shapes, _ = jax.eval_shape(model.init, jax.random.key(0), images)
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes
  )


def line(config, model, params, name):
  """What is to be printed, computed with the model as it is, in one batch."""
  source = inputs.load_source(config, 'eval')
  config = config.copy_and_resolve_references()
  config.eval.batch_size = 360
  batch = inputs.eval_batches(config, source, model)[0]
  images = (batch['image'] / 255 - model.config.mean) / model.config.std
  (logits, _), _ = jax.jit(model.apply, static_argnums=4)(
    params, {}, None, images.astype(np.float32), False
  )
  logits = np.asarray(logits, np.float64)
  ranks = np.argsort(-logits, -1)
  right = ranks == batch['label'][:, None]
  log_sum = np.log(np.sum(np.exp(logits), -1))
  loss = log_sum - logits[np.arange(360), batch['label']]
  return (
    f'{name}: top-1 {right[:, 0].mean():.2%},'
    f' top-5 {right[:, :5].any(-1).mean():.2%}, loss {loss.mean():.4f}'
    ' on 360 images of digits (test)'
  )


def test_a_weights_file(config, model, tmp_path, capsys):
  path = str(tmp_path / 'net.safetensors')
  params = random_params(model, 0)
  weights.save(path, params, {}, MODEL, num_classes=10, **NARROW)
  workdir = tmp_path / 'no run'
  assert evaluate.evaluate(config, workdir, [path]) == 0
  expected = line(config, model, params, path)
  page = workdir / 'eval' / 'net.safetensors' / 'report.html'
  out = capsys.readouterr().out
  assert out.splitlines() == [FLOAT32, expected, f'report: {page}']
  assert 'no run belongs to these weights' in page.read_text()


def test_a_checkpoint_has_two_lines_and_reads_the_split_once(
  config, model, tmp_path, capsys, monkeypatch
):
  params, average = random_params(model, 0), random_params(model, 1)
  state = state_lib.TrainState(params, {}, (), average, {}, jnp.int32(7))
  saver = checkpoint.Checkpointer(tmp_path / 'checkpoints')
  saver.save(7, state)
  saver.close()
  source = CountedSource(inputs.load_source(config, 'eval'))
  with monkeypatch.context() as patch:
    patch.setattr(inputs, 'load_source', lambda *_: source)
    assert evaluate.evaluate(config, tmp_path) == 0
  # Up to 48 pictures are read again for the report.
  assert sorted(source.read[:360]) == list(range(360))
  assert len(source.read) <= 360 + 48
  assert capsys.readouterr().out.splitlines() == [
    FLOAT32,
    line(config, model, params, 'weights of step 7'),
    line(config, model, average, 'averaged weights of step 7'),
    f'report: {tmp_path}/report.html',
  ]
  page = (tmp_path / 'report.html').read_text()
  assert 'is about the averaged weights of step 7' in page


@pytest.mark.slow
def test_a_workdir_among_the_weights(config, model, tmp_path, capsys):
  config.train.dtype = 'float32'
  run, workdir = tmp_path / 'run', tmp_path / 'other'
  save(run, random_params(model, 0), config)
  assert evaluate.evaluate(config, run) == 0
  alone = capsys.readouterr().out.splitlines()
  assert alone[0] == line(
    config, model, random_params(model, 0), 'weights of step 7'
  )
  assert evaluate.evaluate(config, workdir, [str(run)]) == 0
  page = workdir / 'eval' / 'run' / 'report.html'
  assert capsys.readouterr().out.splitlines() == [
    *alone[:2],
    f'report: {page}',
  ]
  assert page.read_bytes() == (run / 'report.html').read_bytes()


def test_without_a_checkpoint_there_is_nothing_to_evaluate(config, tmp_path):
  with pytest.raises(errors.UserError, match='no checkpoint'):
    evaluate.evaluate(config, tmp_path)


def save(workdir, params, config=None):
  """Writes a checkpoint of step 7, with the settings of its run if given."""
  state = state_lib.TrainState(params, {}, (), params, {}, jnp.int32(7))
  saver = checkpoint.Checkpointer(
    workdir / 'checkpoints', config=config and config_lib.flatten(config)
  )
  saver.save(7, state)
  saver.close()


@pytest.mark.parametrize(
  'changes, expected',
  [
    ({'name': 'nf_resnet101'}, "model.name: 'nf_resnet50' -> 'nf_resnet101'"),
    (
      {'width': 0.125, 'activation': 'gelu'},
      "model.activation: None -> 'gelu'; model.width: 0.0625 -> 0.125",
    ),
    ({'alpha': 0.5}, '(model.alpha: None -> 0.5)'),
    ({'depth': (1, 1, 1, 2)}, 'model.depth: [1, 1, 1, 1] -> [1, 1, 1, 2]'),
  ],
)
def test_a_run_with_another_network_is_one_sentence(
  config, model, tmp_path, changes, expected
):
  save(tmp_path, random_params(model, 0), config)
  config.model.update(changes)
  with pytest.raises(errors.UserError) as caught:
    evaluate.evaluate(config, tmp_path)
  message = str(caught.value)
  assert expected in message and f'{tmp_path} has a run' in message
  assert 'omit --config' in message and '\n' not in message


@pytest.mark.parametrize('num_classes', [5, 12])
def test_a_run_with_another_number_of_classes_is_one_sentence(
  config, tmp_path, num_classes
):
  other = build.make_model(config, num_classes)
  save(tmp_path, random_params(other, 0))
  with pytest.raises(errors.UserError) as caught:
    evaluate.evaluate(config, tmp_path)
  message = str(caught.value)
  assert f'10 classes where the network has {num_classes}:' in message
  assert '\n' not in message


def test_settings_that_do_not_matter_in_evaluation_may_differ(
  config, model, tmp_path
):
  save(tmp_path, random_params(model, 0), config)
  config.model.update({'drop_rate': 0.5, 'remat': True})
  config.train.ema_decay = 0.0
  config.train.epochs = 7.0
  names = networks.from_run(config, tmp_path).names
  # The run keeps an average, though these settings do not.
  assert names == {
    '': 'weights of step 7',
    'ema_': 'averaged weights of step 7',
  }


def test_settings_are_checked(config, tmp_path):
  config.eval.batch_size = -1
  with pytest.raises(errors.UserError, match='config.eval.batch_size is -1'):
    evaluate.evaluate(config, tmp_path)
