import json
import pickle
import shutil
import socket

import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from nfnets import errors
from nfnets.data import pipeline, sources
from tests.data import pictures, records


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  root = tmp_path_factory.mktemp('tfds')
  records.array_record_digits(root, 'digits_ar')
  records.tfrecord_digits(root)
  return root


def first_batches(source):
  batches = pipeline.train_batches(source, batch_size=40, image_size=12, seed=5)
  return [batches[k] for k in range(40)]


@pytest.mark.parametrize('split', ['train', 'valid', 'test'])
def test_formats_give_the_same_batches(data_dir, split):
  one = sources.load_source('digits_ar', split, data_dir)
  other = sources.load_source('digits_tf', split, data_dir)
  assert len(one) == len(other) == (1437 if split == 'train' else 360)
  assert one.class_names == other.class_names
  for a, b in zip(first_batches(one), first_batches(other), strict=True):
    for key in a:
      np.testing.assert_array_equal(a[key], b[key])


def test_ids_are_file_and_number(data_dir):
  source = sources.load_source('digits_tf', 'train', data_dir)
  path = data_dir / 'digits_tf/1.0.0/digits_tf-train.tfrecord-0000'
  ids = [source[i]['id'] for i in (0, 478, 479, 1436)]
  assert ids == [
    f'{path}0-of-00003:0',
    f'{path}0-of-00003:478',
    f'{path}1-of-00003:0',
    f'{path}2-of-00003:478',
  ]
  with pytest.raises(IndexError):
    source[1437]


@pytest.mark.parametrize('name', ['digits_ar', 'digits_tf'])
def test_sources_can_be_pickled(data_dir, name):
  source = sources.load_source(name, 'train', data_dir)
  copy = pickle.loads(pickle.dumps(source))
  assert copy[700] == source[700]


@pytest.mark.parametrize('name', ['digits_ar', 'digits_tf'])
@pytest.mark.parametrize('damage', ['half', 'bit', 'missing'])
def test_damaged_file_is_an_error_with_its_path(tmp_path, name, damage):
  make = {
    'digits_ar': records.array_record_digits,
    'digits_tf': records.tfrecord_digits,
  }[name]
  path = sorted(make(tmp_path, name).glob('*-train.*'))[0]
  data = bytearray(path.read_bytes())
  data[len(data) // 3] ^= 1
  if damage == 'missing':
    path.unlink()
  else:
    path.write_bytes(data if damage == 'bit' else data[: len(data) // 2])

  with pytest.raises(errors.UserError, match=f'{path}: ') as caught:
    source = sources.load_source(name, 'train', tmp_path)
    for index in range(len(source)):
      source[index]
  if damage != 'missing':
    assert 'byte' in str(caught.value)
  assert '\n' not in str(caught.value)


def test_number_of_records_must_match_the_description(tmp_path):
  path = records.tfrecord_digits(tmp_path) / 'dataset_info.json'
  info = json.loads(path.read_text())
  info['splits'][0]['shardLengths'][1] = '5'
  path.write_text(json.dumps(info))
  split = info['splits'][0]['name']
  with pytest.raises(errors.UserError, match='records, but 5 according to'):
    sources.load_source('digits_tf', split, tmp_path)


def test_unprepared_data_set_is_an_error_with_a_remedy(tmp_path, monkeypatch):
  def no_network(*_):
    raise AssertionError('used the network')

  monkeypatch.setattr(socket.socket, 'connect', no_network)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  monkeypatch.setenv('HOME', str(tmp_path / 'me'))
  with pytest.raises(errors.UserError) as caught:
    sources.load_source('cifar10', 'train')
  message = str(caught.value)
  assert '\n' not in message
  assert f'{tmp_path}/cifar10' in message
  assert f'{tmp_path}/me/tensorflow_datasets/cifar10' in message
  assert f"tfds.builder('cifar10', data_dir='{tmp_path}', file" in message
  with pytest.raises(errors.UserError, match='train/n01440764.*manual'):
    sources.load_source('imagenet2012', 'train')


def test_a_folder_that_cannot_be_read_is_an_error():
  # From Python 3.13 on, pathlib finds nothing in it instead.
  with pytest.raises(errors.UserError, match='File name too|not prepared'):
    sources.load_source('cifar10', 'train', 'x' * 300)
  with pytest.raises(errors.UserError, match='cannot prepare.*File name too'):
    sources.load_source('digits', 'train', 'x' * 300)


def test_misspelled_name_gets_a_suggestion(data_dir):
  with pytest.raises(errors.UserError, match="did you mean 'digits_tf'"):
    sources.load_source('digit_tf', 'train', data_dir)


@pytest.mark.parametrize('name', ['digits_ar', 'digits_tf'])
def test_the_end_of_train_is_held_out(data_dir, name):
  train, valid, test = (
    sources.load_source(name, split, data_dir, held_out=0.1)
    for split in sources.SPLITS
  )
  assert [len(train), len(valid), len(test)] == [1293, 144, 360]
  whole = sources.load_source(name, 'train', data_dir)
  assert valid[0] == whole[1293] and valid[143] == whole[1436]
  assert train[1292] == whole[1292]
  with pytest.raises(IndexError):
    train[1293]
  assert test[0] == sources.load_source(name, 'test', data_dir)[0]


def test_imagenet_cannot_be_divided(data_dir):
  with pytest.raises(errors.UserError, match='it has a validation split'):
    sources.load_source('imagenet2012', 'train', data_dir, held_out=0.1)


def rename_splits(directory, names):
  """Renames the splits of prepared digits."""
  path = directory / 'dataset_info.json'
  info = json.loads(path.read_text())
  for split in info['splits']:
    new = names[split['name']]
    for file in directory.glob(f'*-{split["name"]}.*'):
      file.rename(str(file).replace(f'-{split["name"]}.', f'-{new}.'))
    split['name'] = new
  path.write_text(json.dumps(info))


def test_imagenet_has_its_published_splits(tmp_path, monkeypatch):
  directory = records.array_record_digits(tmp_path, 'imagenet2012')
  rename_splits(directory, {'train': 'train', 'test': 'validation'})
  monkeypatch.setattr('nfnets.data.imagenet.VALID_SIZE', 100)
  loaded = {
    split: sources.load_source('imagenet2012', split, tmp_path)
    for split in sources.SPLITS
  }
  lengths = {split: len(source) for split, source in loaded.items()}
  assert lengths == {'train': 1437, 'valid': 100, 'test': 360}
  for index in (0, 99):
    assert loaded['valid'][index] == loaded['train'][index]


def test_missing_split_is_an_error(tmp_path):
  directory = records.array_record_digits(tmp_path, 'only')
  rename_splits(directory, {'train': 'extra', 'test': 'unlabeled'})
  with pytest.raises(errors.UserError, match="'train'; it has extra, unlab"):
    sources.load_source('only', 'train', tmp_path)


def test_versions_and_configurations(tmp_path):
  made = records.array_record_digits(tmp_path, 'd')
  for other in ('d/10.0.0', 'd/2.0.0', 'c/small/1.0.0', 'two/a/1.0.0'):
    shutil.copytree(made, tmp_path / other)
  shutil.copytree(made, tmp_path / 'two/b/1.0.0')

  def first_id(name):
    return sources.load_source(name, 'train', tmp_path)[0]['id']

  assert first_id('d').startswith(f'{tmp_path}/d/10.0.0/')
  assert first_id('d:2.0.0').startswith(f'{tmp_path}/d/2.0.0/')
  assert first_id('c').startswith(f'{tmp_path}/c/small/1.0.0/')
  assert first_id('two/b').startswith(f'{tmp_path}/two/b/1.0.0/')
  with pytest.raises(errors.UserError, match='choose one: two/a, two/b'):
    first_id('two')


def test_data_set_without_images_is_an_error(tmp_path):
  directory = records.array_record_digits(tmp_path, 'text')
  path = directory / 'features.json'
  features = json.loads(path.read_text())
  content = features['featuresDict']['features']
  content['image'] = {
    'pythonClassName': 'tensorflow_datasets.core.features.text_feature.Text',
    'text': {},
  }
  path.write_text(json.dumps(features))
  with pytest.raises(errors.UserError, match=r'features are .*image \(Text\)'):
    sources.load_source('text', 'train', tmp_path)


@pytest.mark.parametrize('content', ['{', '[]', '{}', '[' * 10**5])
@pytest.mark.parametrize('file', ['dataset_info.json', 'features.json'])
def test_damaged_description_is_an_error(tmp_path, file, content):
  directory = records.array_record_digits(tmp_path, 'broken')
  (directory / file).write_text(content)
  with pytest.raises(errors.UserError, match=f'{directory}: cannot be read'):
    sources.load_source('broken', 'train', tmp_path)


def test_unknown_file_format_is_an_error(tmp_path):
  directory = records.array_record_digits(tmp_path, 'parquet')
  path = directory / 'dataset_info.json'
  path.write_text(path.read_text().replace('array_record', 'parquet'))
  for file in directory.glob('*.array_record*'):
    file.rename(str(file).replace('array_record', 'parquet'))
  with pytest.raises(errors.UserError, match='format parquet'):
    sources.load_source('parquet', 'train', tmp_path)


@pytest.mark.parametrize('missing', ['image', 'label'])
def test_a_record_without_a_feature_is_damaged(data_dir, missing, monkeypatch):
  source = sources.load_source('digits_tf', 'train', data_dir)
  record = {'image': b'', 'label': 3, missing: None}
  monkeypatch.setattr(source, '_records', {7: record})
  with pytest.raises(errors.UserError, match='record 7 is damaged .without'):
    source[7]


def test_unlabeled_example_is_an_error_with_its_id(tmp_path):
  directory = records.tfrecord_digits(tmp_path, 'unlabeled', shards=1)
  example = tf_example_pb2.Example()
  feature = example.features.feature
  image = pictures.encode(pictures.digit(0)[0], '.png')
  feature['image'].bytes_list.value.append(image)
  feature['label'].int64_list.value.append(-1)
  record = example.SerializeToString()
  for path in directory.glob('*train*'):
    records.write_tfrecords(path, [record] * 1437)
  source = sources.load_source('unlabeled', 'train', tmp_path)
  batches = pipeline.train_batches(source, batch_size=2, image_size=8, seed=0)
  with pytest.raises(errors.UserError, match=r'tfrecord-.*:\d+: label -1 is'):
    batches[0]
