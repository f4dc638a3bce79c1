"""python -m nfnets.convert: every layout, from files and training runs."""

import json
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from jax import export

from nfnets import convert, errors, weights
from nfnets.augment import preprocess
from nfnets.experiment import config as config_lib
from nfnets.export import timm_folder
from nfnets.inference import runs
from nfnets.layers import convolution
from nfnets.training import checkpoint, workdir
from nfnets.weights import tree
from tests.golden import fill
from tests.weights import tiny

_TOLERANCE = 1e-5  # times the logits' standard deviation


def _run(monkeypatch, *arguments):
  monkeypatch.setattr(sys, 'argv', ['convert', *map(str, arguments)])
  return convert.main()


def _logits(loaded, images):
  apply = jax.jit(loaded.model.apply, static_argnums=4)
  with convolution.lowering('plain'):
    outputs = apply(loaded.params, loaded.state, None, images, False)
  return np.asarray(outputs[0][0])


@pytest.fixture
def source(tmp_path):
  path = tmp_path / 'source'
  tiny.save(path, class_names=list('abcdefghij'), eval_preset='timm')
  return path


@pytest.mark.parametrize('layout', ['nfnets', 'deepmind'])
def test_layouts_keep_every_bit(monkeypatch, source, tmp_path, layout):
  target = tmp_path / 'target'
  _run(monkeypatch, source, target, f'--to={layout}')
  params, _ = weights.load(target, tiny.NAME, **tiny.OPTIONS)
  for path, value in tree.flatten(tiny.params()).items():
    assert tree.flatten(params)[path].tobytes() == value.tobytes()


def test_folded_network_is_equivalent(monkeypatch, source, tmp_path):
  _run(monkeypatch, source, tmp_path / 'target', '--to=folded')
  before = weights.load_model(source)
  after = weights.load_model(tmp_path / 'target')
  assert after.model.config.folded
  assert after.class_names == before.class_names
  assert after.eval_preset == 'timm'
  images = fill.image(2, 32)
  wanted = _logits(before, images)
  np.testing.assert_allclose(
    _logits(after, images), wanted, atol=_TOLERANCE * wanted.std()
  )


def test_program(monkeypatch, source, tmp_path):
  target = tmp_path / 'target'
  _run(monkeypatch, source, target, '--to=stablehlo')
  described = json.loads((tmp_path / 'target.json').read_text())
  assert described['class_names'] == list('abcdefghij')
  assert described['input'] == 'float32, normalized'
  assert (described['output'], described['size']) == ('logits', 32)
  program = export.deserialize(bytearray(target.read_bytes()))
  assert program.platforms == ('cpu', 'cuda', 'tpu')
  loaded = weights.load_model(source)
  for batch in (1, 3):
    images = fill.image(batch, 32)
    wanted = _logits(loaded, images)
    np.testing.assert_allclose(
      program.call(images), wanted, atol=_TOLERANCE * wanted.std()
    )


@pytest.mark.slow
def test_program_of_images_to_probabilities(monkeypatch, source, tmp_path):
  target = tmp_path / 'target'
  options = ('--to=stablehlo', '--uint8', '--probabilities')
  _run(monkeypatch, source, target, *options)
  program = export.deserialize(bytearray(target.read_bytes()))
  loaded = weights.load_model(source)
  images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
  config = loaded.model.config
  inputs = preprocess.normalize(images, config.mean, config.std)
  wanted = jax.nn.softmax(_logits(loaded, inputs))
  np.testing.assert_allclose(program.call(images), wanted, atol=1e-6)


def test_timm_gets_our_filters(monkeypatch, source, tmp_path):
  monkeypatch.setattr(timm_folder, 'difference', lambda loaded: 0.0)
  _run(monkeypatch, source, tmp_path / 'folder', '--to=timm')
  _run(monkeypatch, source, tmp_path / 'x.safetensors', '--to=timm')
  # The order of the metadata in the header varies.
  written = safetensors.numpy.load_file(tmp_path / 'x.safetensors')
  inside = safetensors.numpy.load_file(
    tmp_path / 'folder' / 'model.safetensors'
  )
  assert written.keys() == inside.keys()
  for name, value in written.items():
    np.testing.assert_array_equal(inside[name], value)
  found, _ = weights.load(
    tmp_path / 'x.safetensors', tiny.NAME, refit=True, **tiny.OPTIONS
  )
  for path, value in tree.flatten(tiny.params()).items():
    np.testing.assert_allclose(tree.flatten(found)[path], value, rtol=1e-5)


def _settings():
  settings = config_lib.flatten(config_lib.base())
  settings |= {'dataset': 'digits', 'data.eval_preset': 'timm'}
  settings |= {'data.image_size': 24, 'data.eval_size': 32}
  options = {k: v for k, v in tiny.OPTIONS.items() if k in ('width', 'depth')}
  settings |= {f'model.{key}': value for key, value in options.items()}
  return settings | {'model.group_size': 16, 'model.remat': True}


def _dataset():
  return {
    'name': 'folder:/gone',
    'class_names': list('abcdefghij'),
    'train_images': 90,
    'eval_images': 10,
  }


def test_weights_and_moving_average_of_a_training_run(monkeypatch, tmp_path):
  params = tiny.params()
  average = jax.tree.map(lambda x: x * np.float32(0.5), params)
  saved = {'params': params, 'state': {}, 'ema_params': average}
  checkpoints = checkpoint.Checkpointer(
    tmp_path / 'run' / workdir.CHECKPOINTS,
    config=_settings(),
    dataset=_dataset(),
  )
  checkpoints.save(1, saved)
  checkpoints.save(2, jax.tree.map(lambda x: x + np.float32(1), saved))
  checkpoints.close()
  for options, wanted in (
    (('--step=1',), average),
    (('--step=1', '--no-ema'), params),
    ((), jax.tree.map(lambda x: x + np.float32(1), average)),
  ):
    _run(
      monkeypatch, tmp_path / 'run', tmp_path / 'out', '--to=nfnets', *options
    )
    loaded = weights.load_model(tmp_path / 'out')
    for path, value in tree.flatten(wanted).items():
      found = tree.flatten(loaded.params)[path]
      assert found.tobytes() == np.asarray(value).tobytes()
    config = loaded.model.config
    assert config.width == tiny.OPTIONS['width'] and not config.remat
    assert (config.train_size, config.test_size) == (24, 32)
    assert loaded.eval_preset == 'timm'
    assert loaded.class_names == tuple('abcdefghij')
    assert loaded.images == {'train': 90, 'eval': 10}


def test_a_checkpoint_of_an_older_version_numbers_its_classes(tmp_path, caplog):
  saved = {'params': tiny.params(), 'state': {}}
  checkpoints = checkpoint.Checkpointer(
    tmp_path / workdir.CHECKPOINTS, config=_settings()
  )
  checkpoints.save(1, saved)
  checkpoints.close()
  loaded = runs.load(tmp_path)
  assert loaded.class_names == tuple(f'class {i}' for i in range(10))
  assert loaded.images == {}
  (record,) = caplog.records
  assert "called 'class 0', ..." in record.getMessage()


@pytest.mark.parametrize(
  'image_size, eval_size, sizes',
  [(0, 0, (None, None)), (64, 0, (64, 64)), (64, 80, (64, 80))],
)
def test_image_sizes_of_a_training_run(image_size, eval_size, sizes):
  settings = _settings()
  settings |= {'data.image_size': image_size, 'data.eval_size': eval_size}
  options = runs._model_options(settings)
  assert (options.get('train_size'), options.get('test_size')) == sizes


@pytest.mark.parametrize(
  'changes, reason',
  [
    (None, 'model.name is None'),
    ({'model.name': 3}, 'model.name is 3'),
    ({'data.eval_preset': None}, 'data.eval_preset is None'),
    ({'model.name': 'nfnet_f9'}, "no model is named 'nfnet_f9'"),
    ({'model.width': 'x'}, "width is 'x', expected a number"),
    ({'model.other': 1}, "no option 'other'"),
    ({'model.depth': [1, 1, 1, 2]}, 'does not fit nfnet_f0'),
  ],
)
def test_a_run_that_does_not_describe_its_network_is_one_line(
  monkeypatch, tmp_path, changes, reason
):
  settings = None if changes is None else _settings() | changes
  saver = checkpoint.Checkpointer(
    tmp_path / 'run' / workdir.CHECKPOINTS, config=settings
  )
  saver.save(1, {'params': tiny.params(), 'state': {}})
  saver.close()
  with pytest.raises(errors.UserError, match=f'{tmp_path}/run: .*{reason}'):
    _run(monkeypatch, tmp_path / 'run', tmp_path / 'out', '--to=nfnets')
  assert not (tmp_path / 'out').exists()


def test_user_errors(monkeypatch, source, tmp_path):
  target = tmp_path / 'target'
  for arguments, message in (
    ((tmp_path / 'none', target), 'no such file'),
    ((source, tmp_path / 'none' / 'target'), 'no such directory'),
    ((tmp_path, target), 'no checkpoint'),
    ((source, target, '--model=nfnet_f1'), 'file fits nfnet_f0'),
  ):
    with pytest.raises(errors.UserError, match=message):
      _run(monkeypatch, *arguments, '--to=nfnets')
    assert not target.exists()
  with pytest.raises(errors.UserError, match='--uint8 is for --to=stablehlo'):
    _run(monkeypatch, source, target, '--to=nfnets', '--uint8')
  with pytest.raises(errors.UserError, match='--preprocess is for --to=onnx,'):
    _run(monkeypatch, source, target, '--to=stablehlo', '--preprocess')
  with pytest.raises(SystemExit):
    _run(monkeypatch, source, target, '--to=npz')
