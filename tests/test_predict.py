"""python -m nfnets.predict: the probabilities of model.apply, in any form."""

import csv
import io
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import sklearn.datasets

from nfnets import errors, models, predict, weights
from nfnets.augment import preprocess
from nfnets.data import crops, images
from nfnets.layers import convolution
from tests import filled
from tests.weights import tiny

_PHOTOS = pathlib.Path(sklearn.datasets.__file__).parent / 'images'
_NAMES = ('china.jpg', 'flower.jpg')


@pytest.fixture(autouse=True)
def _quick_to_compile():
  with convolution.lowering('plain'):
    yield


@pytest.fixture(scope='module')
def weights_file(tmp_path_factory):
  path = tmp_path_factory.mktemp('weights') / 'file'
  tiny.save(path, class_names=[f'name {i}' for i in range(10)])
  return path


def _run(monkeypatch, capsys, *arguments):
  monkeypatch.setattr(sys, 'argv', ['predict', *map(str, arguments)])
  status = predict.main()
  return status, *capsys.readouterr()


def _probabilities(loaded, name):
  """Step by step, without the program."""
  config = loaded.model.config
  image = images.decode((_PHOTOS / name).read_bytes())
  cut = np.zeros((1, config.test_size, config.test_size, 3), np.uint8)
  crops.eval_crop(image, cut[0], 'deepmind', 0.9, 'squash')
  inputs = preprocess.normalize(cut, config.mean, config.std)
  (logits, _), _ = jax.jit(loaded.model.apply, static_argnums=4)(
    loaded.params, loaded.state, None, inputs, False
  )
  return np.asarray(jax.nn.softmax(logits))[0]


def test_json_has_the_probabilities_of_apply(monkeypatch, capsys, weights_file):
  loaded = _check_photos(monkeypatch, capsys, weights_file)
  assert loaded.class_names[9] == 'name 9'


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['deepmind', 'timm'])
def test_filled_f0(monkeypatch, capsys, tmp_path, layout):
  path = tmp_path / 'F0_haiku.npz'
  params = filled.params(models.create_model('nfnet_f0'))
  weights.save(path, params, {}, 'nfnet_f0', layout)
  loaded = _check_photos(monkeypatch, capsys, path)
  assert loaded.class_names[0] == 'tench'


def _check_photos(monkeypatch, capsys, path):
  """Compares predict on both photographs with model.apply."""
  status, out, _ = _run(
    monkeypatch, capsys, '--weights', path, '--json', _PHOTOS
  )
  assert status == 0
  found = json.loads(out)
  assert [row['image'] for row in found] == [str(_PHOTOS / n) for n in _NAMES]
  loaded = weights.load_model(path)
  for name, row in zip(_NAMES, found, strict=True):
    wanted = _probabilities(loaded, name)
    assert len(row['predictions']) == 5
    for guess in row['predictions']:
      np.testing.assert_allclose(
        guess['probability'], wanted[guess['label']], rtol=1e-5
      )
      assert guess['name'] == loaded.class_names[guess['label']]
    best = [guess['label'] for guess in row['predictions']]
    assert best == np.argsort(-wanted)[:5].tolist()
  return loaded


def test_unreadable_images_are_skipped_and_counted(
  monkeypatch, capsys, weights_file, tmp_path
):
  (tmp_path / 'a.jpg').write_bytes(b'no image')
  shutil.copy(_PHOTOS / 'china.jpg', tmp_path / 'b.jpg')
  (tmp_path / 'c.png').write_bytes(b'')
  shutil.copy(_PHOTOS / 'flower.jpg', tmp_path / 'd.JPG')
  shutil.copy(_PHOTOS / 'flower.jpg', tmp_path / 'e.jpg')
  (tmp_path / 'readme.txt').write_text('no image, and not called one')
  status, out, err = _run(
    monkeypatch,
    capsys,
    '--weights',
    weights_file,
    '--csv',
    '--batch_size=2',
    tmp_path,
  )
  assert status == 1
  assert 'a.jpg: ' in err and 'c.png: ' in err
  assert '2 of 5 images could not be read' in err
  assert 'readme' not in err
  rows = list(csv.DictReader(io.StringIO(out)))
  assert [pathlib.Path(row['image']).name for row in rows[::5]] == [
    'b.jpg',
    'd.JPG',
    'e.jpg',
  ]
  assert [row['rank'] for row in rows[:5]] == ['1', '2', '3', '4', '5']
  # The last batch is filled with what is left of the one before.
  for left, right in zip(rows[5:10], rows[10:], strict=True):
    assert left['label'] == right['label']


def test_table(monkeypatch, capsys, weights_file):
  status, out, _ = _run(
    monkeypatch, capsys, '--weights', weights_file, _PHOTOS / 'china.jpg'
  )
  loaded = weights.load_model(weights_file)
  best = _probabilities(loaded, 'china.jpg')
  assert status == 0
  assert f'name {best.argmax()}' in out
  assert f'{best.max():.2%}' in out


def test_what_a_user_can_get_wrong(monkeypatch, capsys, weights_file, tmp_path):
  for arguments, message in (
    ((tmp_path / 'none.jpg',), 'none.jpg: no such file'),
    ((tmp_path,), 'no image in this folder'),
  ):
    with pytest.raises(errors.UserError, match=message):
      _run(monkeypatch, capsys, '--weights', weights_file, *arguments)
  tiny.save(tmp_path / 'backbone', num_classes=0)
  with pytest.raises(errors.UserError, match='without classifier'):
    _run(monkeypatch, capsys, '--weights', tmp_path / 'backbone', _PHOTOS)


def test_errors_are_one_line(tmp_path):
  command = ('-m', 'nfnets.predict', '--weights=none', _PHOTOS)
  done = subprocess.run(
    [sys.executable, *command], capture_output=True, text=True
  )
  assert done.returncode == 1
  assert done.stderr.startswith('error: none: no such file')
  assert done.stderr.count('\n') == 1
