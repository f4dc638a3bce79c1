"""python -m nfnets.predict: the probabilities of model.apply in all formats."""

import csv
import io
import json
import os
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
  """Returns the probabilities of model.apply, without using the command."""
  config = loaded.model.config
  cut = np.zeros((1, config.test_size, config.test_size, 3), np.uint8)
  image = (_PHOTOS / name).read_bytes()
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
  (tmp_path / 'a.jpg').write_bytes(b'not an image')
  shutil.copy(_PHOTOS / 'china.jpg', tmp_path / 'b.jpg')
  (tmp_path / 'c.png').write_bytes(b'')
  shutil.copy(_PHOTOS / 'flower.jpg', tmp_path / 'd.JPG')
  shutil.copy(_PHOTOS / 'flower.jpg', tmp_path / 'e.jpg')
  (tmp_path / 'readme.txt').write_text('neither an image nor named like one')
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
  assert 'a.jpg: not an image, or a damaged one\n' in err
  assert 'c.png: empty file' in err
  assert '2 of 5 images could not be read' in err
  assert 'readme' not in err
  rows = list(csv.DictReader(io.StringIO(out)))
  assert [pathlib.Path(row['image']).name for row in rows[::5]] == [
    'b.jpg',
    'd.JPG',
    'e.jpg',
  ]
  assert [row['rank'] for row in rows[:5]] == ['1', '2', '3', '4', '5']
  # The last batch is not full; its result must not depend on that.
  for left, right in zip(rows[5:10], rows[10:], strict=True):
    assert left['label'] == right['label']


def test_searches_folders_as_training_does(
  monkeypatch, capsys, weights_file, tmp_path
):
  root, photo = tmp_path / 'images', _PHOTOS / 'china.jpg'
  for name in (
    'images/a.jpg',
    'images/._a.jpg',
    'images/.ipynb_checkpoints/a.jpg',
    'elsewhere/b.jpg',
    'photo',
  ):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(photo, tmp_path / name)
  (root / 'linked').symlink_to(tmp_path / 'elsewhere')
  (root / 'loop').symlink_to(root)
  status, out, err = _run(
    monkeypatch,
    capsys,
    *('--weights', weights_file, '--json', root, tmp_path / 'photo'),
  )
  assert (status, err) == (0, '')
  assert [row['image'] for row in json.loads(out)] == [
    str(root / 'a.jpg'),
    str(root / 'linked/b.jpg'),
    str(tmp_path / 'photo'),
  ]


def test_table(monkeypatch, capsys, weights_file):
  status, out, _ = _run(
    monkeypatch, capsys, '--weights', weights_file, _PHOTOS / 'china.jpg'
  )
  loaded = weights.load_model(weights_file)
  best = _probabilities(loaded, 'china.jpg')
  assert status == 0
  assert f'name {best.argmax()}' in out
  assert f'{best.max():.2%}' in out


@pytest.mark.parametrize('format_', ['--csv', '--json', None])
def test_names_reach_neither_a_terminal_nor_a_table_as_commands(
  monkeypatch, capsys, tmp_path, format_
):
  tiny.save(tmp_path / 'file', class_names=['\x1b[2J[/]:dog:\r\n=1'] * 10)
  # Control characters, markup of rich, and a byte that is not UTF-8.
  name = os.fsdecode(b'a\x1b]0;x\x07[red]\n\xff.jpg')
  shutil.copy(_PHOTOS / 'china.jpg', tmp_path / name)
  (tmp_path / '\x1bbad.jpg').write_bytes(b'not an image')
  monkeypatch.setenv('COLUMNS', '500')
  options = ['--weights', tmp_path / 'file', *([format_] if format_ else [])]
  status, out, err = _run(
    monkeypatch, capsys, *options, tmp_path / name, tmp_path / '\x1bbad.jpg'
  )
  assert status == 1
  for text in (out, err):
    assert all(x.isprintable() or x == '\n' for x in text), text
  assert f'{tmp_path}/\\x1bbad.jpg: not an image, or a damaged one\n' in err
  if format_ == '--csv':
    row = next(csv.DictReader(io.StringIO(out)))
    assert row['image'] == f'{tmp_path}/a\\x1b]0;x\\x07[red]\\n\\udcff.jpg'
    assert row['name'] == '\\x1b[2J[/]:dog:\\r\\n=1'
  elif format_ is None:
    assert 'a\\x1b]0;x\\x07[red]\\n\\udcff.jpg' in out
    assert '\\x1b[2J[/]:dog:\\r\\n=1' in out


def test_user_errors(monkeypatch, capsys, weights_file, tmp_path):
  for arguments, message in (
    ((tmp_path / 'none.jpg',), 'none.jpg: no such file'),
    ((tmp_path,), 'no image in this folder'),
  ):
    with pytest.raises(errors.UserError, match=message):
      _run(monkeypatch, capsys, '--weights', weights_file, *arguments)
  tiny.save(tmp_path / 'backbone', num_classes=0)
  with pytest.raises(errors.UserError, match='without a classifier'):
    _run(monkeypatch, capsys, '--weights', tmp_path / 'backbone', _PHOTOS)


def _run_command(*arguments):
  command = [sys.executable, '-m', 'nfnets.predict', *map(str, arguments)]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.stderr.count('\n') == 1
  return done.returncode, done.stderr


def test_errors_are_one_line():
  status, err = _run_command('--weights=none', _PHOTOS)
  assert status == 1
  assert err.startswith('error: none: no such file')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read every folder')
def test_unreadable_folder_is_an_error(tmp_path):
  (tmp_path / 'a.jpg').touch()
  locked = tmp_path / 'locked'
  locked.mkdir(0)
  try:
    status, err = _run_command('--weights=none', tmp_path)
  finally:
    locked.chmod(0o755)
  assert status == 1
  assert err == f'error: {locked}: cannot be read: Permission denied\n'


def test_files_beside_the_results(monkeypatch, capsys, weights_file, tmp_path):
  files = [tmp_path / name for name in ('r.json', 'e.npz', 'g.png')]
  status, out, _ = _run(
    monkeypatch,
    capsys,
    '--weights',
    weights_file,
    f'--out={files[0]}',
    f'--embeddings={files[1]}',
    f'--grid={files[2]}',
    _PHOTOS,
  )
  assert (status, out) == (0, '')
  rows = json.loads(files[0].read_text())
  assert [pathlib.Path(row['image']).name for row in rows] == list(_NAMES)
  loaded = weights.load_model(weights_file)
  with np.load(files[1]) as arrays:
    assert arrays['images'].tolist() == [row['image'] for row in rows]
    assert arrays['class_names'].tolist() == list(loaded.class_names)
    assert arrays['embeddings'].shape[0] == 2
    for name, found in zip(_NAMES, arrays['probabilities'], strict=True):
      np.testing.assert_allclose(found, _probabilities(loaded, name), rtol=1e-5)
  assert images.decode(files[2].read_bytes()).shape[2] == 3


@pytest.mark.parametrize(
  ('option', 'message'),
  [
    ('--out=results.txt', 'must end in .csv or .json'),
    ('--embeddings=e.csv', 'must end in .npz'),
    ('--grid=g.jpg', 'must end in .png'),
    ('--out=none/results.csv', 'none: no such folder'),
  ],
)
def test_output_files_are_checked_first(
  monkeypatch, capsys, tmp_path, option, message
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(errors.UserError, match=message):
    _run(monkeypatch, capsys, '--weights=none', option, _PHOTOS)
