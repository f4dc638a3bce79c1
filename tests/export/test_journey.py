"""docs/pictures.md from start to end: the same probabilities everywhere."""

import csv
import importlib.util
import pathlib
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest

from nfnets.data import images as images_lib
from nfnets.export import onnx_graph
from nfnets.inference import sources
from tests import documented, documents, helpers
from tests.data import pictures

pytestmark = pytest.mark.slow

_PAGE = documents.ROOT / 'docs' / 'pictures.md'
_CLASSES = ('cross', 'disk', 'square')
_TOLERANCE = 1e-4


def _picture(kind, number):
  """Draws a shape on a photograph, uint8[H, W, 3] of several sizes."""
  random = np.random.default_rng([_CLASSES.index(kind), number])
  height, width = random.integers(50, 130, 2).tolist()
  image = pictures.photograph(height, width).copy()
  center = (width // 2, height // 2)
  color, reach = random.integers(128, 256, 3).tolist(), min(height, width) // 3
  if kind == 'disk':
    cv2.circle(image, center, reach, color, -1)
  elif kind == 'square':
    corners = [[c + sign * reach for c in center] for sign in (-1, 1)]
    cv2.rectangle(image, *corners, color, -1)
  else:
    cv2.drawMarker(image, center, color, cv2.MARKER_CROSS, 2 * reach, 6)
  return image


@pytest.fixture(scope='module')
def journey(tmp_path_factory):
  """The folder in which the commands of the page have run."""
  here = tmp_path_factory.mktemp('journey')
  for name in ('nfnets', 'experiments'):
    (here / name).symlink_to(documents.ROOT / name)
  (here / 'new').mkdir()
  for kind in _CLASSES:
    (here / 'pictures' / kind).mkdir(parents=True)
    for number in range(24):
      folder = here / 'new' if number > 21 else here / 'pictures' / kind
      data = pictures.encode(_picture(kind, number))
      (folder / f'{kind}{number}.jpg').write_bytes(data)
  (here / 'photo.jpg').write_bytes(pictures.encode(_picture('disk', 99)))
  for command in documents.commands(_PAGE):
    if '--to=onnx' not in command or importlib.util.find_spec('onnx'):
      _run(here, command)
  return here


def _run(here, command):
  words = shlex.split(
    re.sub(r'(?<!\w)/pictures\b', f'{here}/pictures', command)
  )
  extra = documented.JOURNEY.get(command, ())
  done = subprocess.run(
    [sys.executable, *words[1:], *extra],
    cwd=here,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, f'{command}:\n{done.stdout}'


@pytest.fixture(scope='module')
def ours(journey):
  """The names that the first snippet of the page defines."""
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(journey)
    return _snippet('nfnets.load', {})


@pytest.fixture(autouse=True)
def in_the_folder(journey, monkeypatch):
  monkeypatch.chdir(journey)


def _snippet(word, names):
  """Runs the snippet of the page that contains a word; returns its names."""
  (text,) = [t for t in documents.fences(_PAGE, 'python') if word in t]
  names = dict(names)
  exec(compile(text, str(_PAGE), 'exec'), names)  # noqa: S102
  return names


def _check_photo(found, ours):
  """Checks the result of a snippet for photo.jpg."""
  assert list(found['names']) == list(_CLASSES)
  np.testing.assert_allclose(
    found['probabilities'], ours['probabilities'], rtol=0, atol=_TOLERANCE
  )


@pytest.fixture(scope='module')
def inputs(journey, ours):
  """Paths of the new pictures, our inputs and our probabilities."""
  paths = sorted((journey / 'new').iterdir())
  arrays = np.stack([ours['network'].preprocess(path) for path in paths])
  probabilities = ours['network'].predict(paths).probabilities
  # Otherwise the comparisons would say nothing.
  assert probabilities.std(axis=0).max() > 0.05
  return paths, arrays, probabilities


def test_report_and_predictions(journey, ours, inputs):
  text = (journey / 'runs' / 'pictures' / 'report.html').read_text()
  assert all(kind in text for kind in _CLASSES)
  assert list(ours['names']) == list(_CLASSES)
  with open(journey / 'results.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  paths = list(dict.fromkeys(row['image'] for row in rows))
  assert len(paths) == 66 and len(rows) == 3 * 66
  found = {(row['image'], row['name']): row['probability'] for row in rows}
  wanted = ours['network'].predict(paths).probabilities
  for path, row in zip(paths, wanted, strict=True):
    for name, probability in zip(_CLASSES, row, strict=True):
      assert float(found[path, name]) == pytest.approx(probability, abs=1e-5)


def test_timm(ours, inputs):
  timm = helpers.timm()
  import torch

  found = _snippet('import timm', {'timm': timm})
  _check_photo(found, ours)
  _, arrays, wanted = inputs
  with torch.no_grad():
    tensor = torch.from_numpy(arrays.transpose(0, 3, 1, 2).copy())
    probabilities = found['net'](tensor).softmax(-1).numpy()
  np.testing.assert_allclose(probabilities, wanted, rtol=0, atol=_TOLERANCE)


def test_onnx(journey, ours, inputs):
  pytest.importorskip('onnx')
  onnxruntime = pytest.importorskip('onnxruntime')
  found = _snippet('import onnxruntime', {})
  _check_photo(found, ours)
  paths, arrays, wanted = inputs
  for path, row in zip(paths, wanted, strict=True):
    image = images_lib.decode(pathlib.Path(path).read_bytes())
    (probabilities,) = found['session'].run(None, {'images': image[None]})
    # Its own crop may differ by a level in one of 1,024 pixels.
    np.testing.assert_allclose(probabilities[0], row, rtol=0, atol=1e-3)
  loaded = sources.load_weights(journey / 'runs' / 'pictures')
  content = onnx_graph.export_onnx(loaded, probabilities=True)
  session = onnxruntime.InferenceSession(content)
  (probabilities,) = session.run(None, {'images': arrays})
  np.testing.assert_allclose(probabilities, wanted, rtol=0, atol=_TOLERANCE)


def test_stablehlo(ours, inputs):
  found = _snippet('export.deserialize', ours)
  _check_photo(found, ours)
  _, arrays, wanted = inputs
  np.testing.assert_allclose(
    found['program'].call(arrays), wanted, rtol=0, atol=_TOLERANCE
  )
