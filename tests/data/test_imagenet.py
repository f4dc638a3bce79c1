import pathlib

import numpy as np
import pytest
from sklearn import datasets

from nfnets import errors
from nfnets.data import imagenet, sources
from nfnets.data.digits import digits_dataset_builder
from tests.data import records
from tests.data.test_folders import touch

WNIDS = [f'n0144{i:04d}' for i in range(12)]


@pytest.fixture
def root(tmp_path):
  for wnid in WNIDS:
    touch(tmp_path, *(f'train/{wnid}/{wnid}_{i}.JPEG' for i in range(5)))
    touch(tmp_path, f'val/{wnid}/ILSVRC2012_val_{wnid[1:]}.JPEG')
  return tmp_path


def load(root, split):
  return sources.load_source('imagenet2012', split, root)


def names(source):
  return [source[i]['id'].rsplit('/')[-1] for i in range(len(source))]


def test_published_splits(root, monkeypatch):
  monkeypatch.setattr(imagenet, 'VALID_SIZE', 20)
  train, valid, test = (load(root, split) for split in sources.SPLITS)
  assert [len(train), len(valid), len(test)] == [60, 20, 12]
  assert train.class_names == tuple(WNIDS)
  # The first images of train, from several classes.
  assert names(valid) == names(train)[:20]
  assert len(set(valid.labels.tolist())) > 5
  for source in (train, valid, test):
    for index in range(len(source)):
      example = source[index]
      assert f'/{WNIDS[example["label"]]}/' in example['id']


def test_order_is_tfds_order(tmp_path):
  # TFDS stored the digits with their numbers as keys.
  directory = records.array_record_digits(tmp_path)
  for split, tfds_split in (('train', 'train'), ('test', 'test')):
    source = sources.load_source('digits', split, directory.parent.parent)

    target = datasets.load_digits().target
    numbers = digits_dataset_builder.split_indices(target)[split]
    paths = [f'x/{number:04d}'.encode() for number in numbers]
    order = imagenet.tfds_order(paths, tfds_split)
    expected = target[numbers[order]]
    stored = [source[i]['label'] for i in range(len(source))]
    np.testing.assert_array_equal(stored, expected)


@pytest.mark.parametrize(
  'below', ['', 'ILSVRC/Data/CLS-LOC', 'Data/CLS-LOC', 'imagenet']
)
def test_folder_is_found_below_the_root(tmp_path, below):
  touch(tmp_path / below, 'train/n01440764/1.JPEG')
  found = imagenet.find_folder(str(tmp_path))
  assert found and pathlib.Path(found) == tmp_path / below
  assert imagenet.find_folder(str(tmp_path / 'nope')) is None


def test_other_folders_are_not_imagenet(tmp_path):
  touch(tmp_path, 'train/cat/1.jpg')
  with pytest.raises(errors.UserError, match='train/n01440764'):
    load(tmp_path, 'train')


def kaggle(tmp_path, rows):
  base = tmp_path / 'ILSVRC/Data/CLS-LOC'
  for label, wnid in enumerate(WNIDS):
    touch(base, f'train/{wnid}/1.JPEG')
    touch(base, f'val/ILSVRC2012_val_{label:08d}.JPEG')
  if rows is not None:
    table = ['ImageId,PredictionString', *rows]
    (tmp_path / 'LOC_val_solution.csv').write_text('\n'.join(table) + '\n')


def test_kaggles_flat_validation_images(tmp_path):
  rows = [
    f'ILSVRC2012_val_{label:08d},{wnid} 85 1 499 272 {wnid} 1 2 3 4'
    for label, wnid in enumerate(WNIDS)
  ]
  kaggle(tmp_path, rows[::-1])
  source = load(tmp_path, 'test')
  assert len(source) == 12
  for index in range(12):
    example = source[index]
    assert example['id'].endswith(f'{example["label"]:08d}.JPEG')


def test_flat_validation_images_need_the_table(tmp_path):
  kaggle(tmp_path, None)
  with pytest.raises(errors.UserError, match='LOC_val_solution.csv.* is not'):
    load(tmp_path, 'test')
  assert len(load(tmp_path, 'train')) == 12


def test_image_missing_from_the_table_is_an_error(tmp_path):
  kaggle(tmp_path, [f'ILSVRC2012_val_00000000,{WNIDS[0]} 1 2 3 4'])
  with pytest.raises(
    errors.UserError, match='no known class for ILSVRC2012_val_00000001'
  ):
    load(tmp_path, 'test')
