import pickle

import numpy as np
import pytest

from nfnets import errors
from nfnets.data import images, sources
from nfnets.data import source as source_lib
from tests.data import pictures
from tests.data.test_folders import touch


def load(root, split='train', **options):
  return sources.load_source(f'folder:{root}', split, **options)


def ids(source):
  return {source[i]['id'] for i in range(len(source))}


def test_divided_folders(tmp_path):
  train = pictures.write_class_folders(tmp_path / 'train', range(30))
  val = pictures.write_class_folders(tmp_path / 'val', range(30, 40))
  assert ids(load(tmp_path)) == set(map(str, train))
  assert ids(load(tmp_path, 'valid')) == set(map(str, val))
  assert ids(load(tmp_path, 'test')) == set(map(str, val))
  assert load(tmp_path).class_names == tuple('0123456789')
  test = pictures.write_class_folders(tmp_path / 'TEST', range(40, 45))
  assert ids(load(tmp_path, 'test')) == set(map(str, test))
  assert ids(load(tmp_path, 'valid')) == set(map(str, val))


def test_examples_have_image_label_and_path(tmp_path):
  paths = pictures.write_class_folders(tmp_path / 'train', range(20))
  source = load(tmp_path)
  for index in range(len(source)):
    example = source[index]
    path = tmp_path / example['id']
    number = int(path.stem)
    image, label = pictures.digit(number)
    assert example['label'] == label == source.labels[index]
    np.testing.assert_array_equal(images.decode(example['image']), image)
    assert path in paths
  with pytest.raises(IndexError):
    source[len(source)]


def test_undivided_folder_is_split_within_each_class(tmp_path):
  names = [f'{c}/{i:03d}.jpg' for c in 'ab' for i in range(100)]
  names += [f'few/{i}.jpg' for i in range(3)] + ['one/1.jpg']
  touch(tmp_path, *names)
  train, held_out = load(tmp_path), load(tmp_path, 'test')
  assert train.class_names == held_out.class_names == ('a', 'b', 'few', 'one')
  assert np.bincount(train.labels).tolist() == [90, 90, 2, 1]
  assert np.bincount(held_out.labels, minlength=4).tolist() == [10, 10, 1, 0]
  assert ids(train) | ids(held_out) == {str(tmp_path / name) for name in names}
  assert not ids(train) & ids(held_out)
  assert ids(load(tmp_path, 'valid')) == ids(held_out)
  assert ids(load(tmp_path, 'all')) == ids(train) | ids(held_out)


def test_split_does_not_depend_on_the_folders_path(tmp_path):
  names = [f'a/{i:03d}.jpg' for i in range(50)] + ['b/1.jpg', 'b/2.jpg']
  held_out = []
  for root in (tmp_path / 'x', tmp_path / 'y'):
    touch(root, *names)
    held_out.append(
      {i.removeprefix(str(root)) for i in ids(load(root, 'test'))}
    )
  assert held_out[0] == held_out[1]


def test_adding_an_image_moves_few_others(tmp_path):
  touch(tmp_path, *(f'a/{i:03d}.jpg' for i in range(100)), 'b/1.jpg')
  before = ids(load(tmp_path, 'test'))
  touch(tmp_path, 'a/new.jpg')
  assert len(before - ids(load(tmp_path, 'test'))) <= 1


def test_part_of_train_can_be_held_out_beside_a_test_split(tmp_path):
  names = [f'train/{c}/{i:03d}.jpg' for c in 'ab' for i in range(100)]
  tests = [f'test/{c}/{i}.jpg' for c in 'ab' for i in range(7)]
  touch(tmp_path, *names, *tests, 'train/one/1.jpg')
  train, valid, test = (
    load(tmp_path, split, held_out=0.2) for split in sources.SPLITS
  )
  assert np.bincount(train.labels).tolist() == [80, 80, 1]
  assert np.bincount(valid.labels).tolist() == [20, 20]
  assert not ids(train) & ids(valid)
  assert ids(train) | ids(valid) == ids(load(tmp_path))
  assert ids(test) == {str(tmp_path / name) for name in tests}
  assert train.class_names == valid.class_names == test.class_names
  # Each class keeps an image to train on.
  most = load(tmp_path, held_out=0.999)
  assert np.bincount(most.labels).tolist() == [1, 1, 1]
  # Without the option nothing is held out.
  assert ids(load(tmp_path, 'valid')) == ids(test)
  # The rule is that of folders that are not divided.
  touch(tmp_path / 'whole', *(name.removeprefix('train/') for name in names))
  tenth = ids(load(tmp_path / 'whole', 'test'))
  assert {path.replace('/whole/', '/train/') for path in tenth} == ids(
    load(tmp_path, 'valid', held_out=0.1)
  )
  touch(tmp_path, 'train/a/new.jpg')
  assert len(ids(valid) - ids(load(tmp_path, 'valid', held_out=0.2))) <= 1


@pytest.mark.parametrize(
  'names, expected',
  [
    (['train/a', 'train/b', 'val/a', 'test/a'], 'has a validation folder, '),
    (['train/a', 'train/b', 'val/a'], 'has a validation folder, '),
    (['train/a', 'train/b'], 'has no folders train and test'),
    (['a', 'b'], 'has no folders train and test'),
  ],
)
@pytest.mark.parametrize('split', sources.SPLITS)
def test_only_train_beside_test_can_be_divided(
  tmp_path, names, expected, split
):
  touch(tmp_path, *(f'{name}/{i}.jpg' for name in names for i in range(10)))
  with pytest.raises(errors.UserError, match='config.data.held_out') as caught:
    load(tmp_path, split, held_out=0.1)
  assert f'{tmp_path} {expected}' in str(caught.value)


def test_train_without_other_splits_is_divided(tmp_path):
  touch(tmp_path, *(f'train/{c}/{i}.jpg' for c in 'ab' for i in range(10)))
  (tmp_path / 'val').mkdir()
  assert len(load(tmp_path)) == 18
  assert len(load(tmp_path, 'valid')) == 2


def test_numbered_classes_have_their_number_as_label(tmp_path):
  touch(tmp_path, *(f'{i}/1.jpg' for i in range(120)))
  source = load(tmp_path, 'all')
  assert source.class_names == tuple(map(str, range(120)))
  for index in range(0, 120, 7):
    example = source[index]
    assert f'/{example["label"]}/' in example['id']


def test_class_missing_from_train_is_an_error(tmp_path):
  touch(tmp_path, 'train/cat/1.jpg', 'train/dog/1.jpg', 'val/bird/1.jpg')
  with pytest.raises(
    errors.UserError, match=r'val/bird: not one of .*cat, dog'
  ):
    load(tmp_path, 'valid')


def test_class_may_be_missing_from_val(tmp_path):
  touch(tmp_path, 'train/cat/1.jpg', 'train/dog/1.jpg', 'val/dog/1.jpg')
  source = load(tmp_path, 'valid')
  assert source.class_names == ('cat', 'dog')
  assert source.labels.tolist() == [1]


def test_missing_folder_or_classes_are_errors(tmp_path):
  with pytest.raises(errors.UserError, match='there is no folder .*nope'):
    load(tmp_path / 'nope')
  (tmp_path / 'pictures.zip').touch()
  with pytest.raises(
    errors.UserError, match='pictures.zip, but a file: unpack'
  ):
    load(tmp_path / 'pictures.zip')
  touch(tmp_path, '1.jpg', '2.jpg', 'a/readme.txt')
  with pytest.raises(errors.UserError, match='no classes: .* 2 are outside'):
    load(tmp_path)


def test_sources_can_be_pickled(tmp_path):
  pictures.write_class_folders(tmp_path, range(20))
  source = load(tmp_path, 'all')
  copy = pickle.loads(pickle.dumps(source))
  assert [copy[i] for i in range(20)] == [source[i] for i in range(20)]


def test_unreadable_file_is_an_error_with_its_path(tmp_path):
  paths = pictures.write_class_folders(tmp_path, range(20))
  source = load(tmp_path, 'all')
  paths[0].unlink()
  paths[0].mkdir()
  index = sorted(map(str, paths)).index(str(paths[0]))
  with pytest.raises(source_lib.UnreadableError) as caught:
    source[index]
  assert (caught.value.id, caught.value.reason) == (
    str(paths[0]),
    'Is a directory',
  )
