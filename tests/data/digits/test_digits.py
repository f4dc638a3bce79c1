import pathlib
import subprocess
import sys

import numpy as np
import pytest
from sklearn import datasets

from nfnets import errors
from nfnets.data import images, sources
from nfnets.data.digits import digits_dataset_builder, preparation


def test_split_is_fixed_and_stratified():
  labels = datasets.load_digits().target
  splits = digits_dataset_builder.split_indices(labels)
  train, test = splits['train'], splits['test']
  assert (len(train), len(test)) == (1437, 360)
  assert sorted([*train, *test]) == list(range(1797))
  share = np.bincount(labels[test]) / np.bincount(labels)
  assert share.min() > 0.19 and share.max() < 0.21
  # As long as this holds, results stay comparable.
  assert test[:5].tolist() == [0, 2, 4, 17, 21]
  assert (int(train.sum()), int(test.sum())) == (1291005, 322701)


def test_stored_images_are_scikit_learn_s():
  digits = datasets.load_digits()
  splits = digits_dataset_builder.split_indices(digits.target)
  for split, indices in splits.items():
    source = sources.load_source('digits', split)
    assert len(source) == len(indices)
    assert source.class_names == tuple('0123456789')
    # TFDS stores them in an order of its own.
    stored = sorted(
      (int(source[i]['label']), images.decode(source[i]['image']).tobytes())
      for i in range(len(source))
    )
    grey = np.round(digits.images[indices] * 255 / 16).astype(np.uint8)
    expected = sorted(
      (int(label), np.repeat(image[..., None], 3, -1).tobytes())
      for image, label in zip(grey, digits.target[indices], strict=True)
    )
    assert stored == expected


def test_prepared_by_two_processes_at_once(tmp_path):
  code = (
    'import sys, pathlib; from nfnets.data.digits import preparation;'
    'print(preparation.prepare(pathlib.Path(sys.argv[1])))'
  )
  command = [sys.executable, '-c', code, str(tmp_path)]
  both = [
    subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in range(2)
  ]
  printed = [process.communicate()[0].strip() for process in both]
  assert [process.returncode for process in both] == [0, 0]
  assert printed == [str(tmp_path / 'digits' / '1.0.0')] * 2
  # Nothing but the data set is left.
  assert [path.name for path in tmp_path.iterdir()] == ['digits']


def test_prepared_once(tmp_path):
  first = preparation.prepare(tmp_path)
  stamps = {path: path.stat().st_mtime_ns for path in first.iterdir()}
  assert preparation.prepare(tmp_path) == first
  assert {p: p.stat().st_mtime_ns for p in first.iterdir()} == stamps


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match='file.*XDG_CACHE_HOME'):
    preparation.prepare(pathlib.Path(tmp_path / 'file'))


def test_neither_tensorflow_nor_jax_is_imported(tmp_path):
  code = (
    'import sys; from nfnets.data import pipeline, sources;'
    'sources.load_source("digits", "test", sys.argv[1])[0];'
    'print([m for m in ("jax", "tensorflow") if m in sys.modules])'
  )
  command = [sys.executable, '-c', code, str(tmp_path)]
  result = subprocess.run(command, capture_output=True, text=True, check=True)
  assert result.stdout.strip() == '[]'
