"""Folders that are not organized as they seem."""

import re

import pytest

from nfnets import errors
from nfnets.data import folder_layout, sources
from tests.data.test_folders import touch


def spread(*folders, count=10):
  return [f'{folder}/{i}.jpg' for folder in folders for i in range(count)]


def load(root, split='train'):
  return sources.load_source(f'folder:{root}', split)


def lengths(root):
  return [len(load(root, split)) for split in sources.SPLITS]


def refused(root, split='train'):
  with pytest.raises(errors.UserError) as caught:
    load(root, split)
  message = str(caught.value)
  assert '\n' not in message
  return message.replace(str(root), 'ROOT')


@pytest.mark.parametrize('split', ['train', 'valid', 'test'])
@pytest.mark.parametrize(
  'names, only, at',
  [
    (['pictures/cat', 'pictures/dog'], 'pictures', 'ROOT/pictures'),
    (['a/b/cat', 'a/b/dog/x', 'a/b/dog/y'], 'a', 'ROOT/a/b'),
    (['val/cat', 'val/dog'], 'val', 'ROOT/val'),
    (['images/train/cat', 'images/val/cat'], 'images', 'ROOT/images'),
  ],
)
def test_one_folder_level_too_many(tmp_path, split, names, only, at):
  touch(tmp_path, *spread(*names), 'empty/readme.txt')
  message = refused(tmp_path, split)
  assert message.startswith(
    f'ROOT: only one class, {only!r}, but {at} contains'
  )
  assert message.endswith(f'if these are the classes, write folder:{at}')


def test_one_folder_level_too_many_in_a_split(tmp_path):
  touch(tmp_path, *spread('train/train/cat', 'train/train/dog', 'val/val/cat'))
  assert refused(tmp_path).endswith(
    'ROOT/train/train contains 2 folders of images (cat, dog): if these are the'
    ' classes, move them from ROOT/train/train to ROOT/train'
  )


@pytest.mark.parametrize('split', ['train', 'valid', 'test'])
@pytest.mark.parametrize(
  'names, only, at',
  [
    (['cat'], 'cat', 'ROOT'),
    (['cat', 'cat/young'], 'cat', 'ROOT'),
    (['a/b/cat'], 'a', 'ROOT'),
  ],
)
def test_one_class_alone(tmp_path, split, names, only, at):
  touch(tmp_path, *spread(*names))
  message = refused(tmp_path, split)
  assert message.startswith(
    f'{at}: only one class, {only!r}; a classifier needs'
  )
  assert f'{at}/CLASS/' in message


def test_one_class_alone_can_be_evaluated_but_not_trained_on(tmp_path):
  touch(tmp_path, *spread('train/cat', 'val/cat'))
  message = refused(tmp_path, 'train')
  assert message.startswith("ROOT/train: only one class, 'cat'; a classifier")
  assert load(tmp_path, 'valid').class_names == ('cat',)


def test_one_class_alone_can_be_evaluated(tmp_path):
  touch(tmp_path, *spread('cat/2024', 'cat/2025'))
  source = load(tmp_path, 'all')
  assert (len(source), source.class_names) == (20, ('cat',))


@pytest.mark.parametrize(
  'names', [['train', 'val'], ['Train', 'Test'], ['train'], ['val', 'test/cat']]
)
def test_splits_are_not_classes(tmp_path, names):
  touch(tmp_path, *spread(*names))
  message = refused(tmp_path)
  assert message.startswith('ROOT: no classes, only splits (')
  assert 'ROOT/train/CLASS/' in message


def test_a_class_may_have_the_name_of_a_split(tmp_path):
  touch(tmp_path, *spread('bus', 'train', 'test'))
  assert load(tmp_path).class_names == ('bus', 'test', 'train')


def test_splits_within_classes_are_not_mixed(tmp_path):
  touch(tmp_path, *spread('cat/train', 'cat/val', 'dog/train', 'dog/val'))
  message = refused(tmp_path)
  assert message.startswith('ROOT/cat contains the splits train, val, which')
  assert 'ROOT/train/CLASS/ and ROOT/val/CLASS/' in message


@pytest.mark.parametrize('split', ['train', 'valid', 'test'])
@pytest.mark.parametrize('name', ['val', 'valid', 'Validation', 'dev'])
def test_validation_images_without_classes(tmp_path, split, name):
  touch(tmp_path, *spread('train/cat', 'train/dog'), f'{name}/7.jpg')
  message = refused(tmp_path, split)
  assert message.startswith(
    f'ROOT/{name}: its images, such as 7.jpg (1 in all), are not in'
  )
  assert f'move them to ROOT/{name}/CLASS/' in message


def test_test_images_without_classes_are_reported_once(tmp_path, caplog):
  touch(tmp_path, *spread('train/cat', 'train/dog', 'test'))
  assert lengths(tmp_path) == [18, 2, 2]
  (record,) = caplog.records
  assert record.getMessage() == (
    f'{tmp_path}/test: its images, such as 0.jpg (10 in all), are not used,'
    f' since they are not in {tmp_path}/test/CLASS/, and a tenth of'
    f' {tmp_path}/train is held out'
  )


def test_flat_images_beside_a_held_out_folder_are_reported(tmp_path, caplog):
  touch(tmp_path, *spread('train/cat', 'train/dog', 'test/cat'), 'val/1.jpg')
  assert lengths(tmp_path) == [20, 10, 10]
  (record,) = caplog.records
  assert record.message.endswith(f'they are not in {tmp_path}/val/CLASS/')


def test_an_empty_held_out_folder_is_reported(tmp_path, caplog):
  touch(tmp_path, *spread('train/cat', 'train/dog'), 'val/cat/1.heic')
  assert lengths(tmp_path) == [18, 2, 2]
  (record,) = caplog.records
  assert record.message.startswith(f'{tmp_path}/val: no image (.jpg, ')
  assert '.heic files are left out: 1, such as cat/1.heic' in record.message
  assert f'a tenth of {tmp_path}/train is held out' in record.message


@pytest.mark.parametrize(
  'train, held_out',
  [('Training', 'Testing'), ('train', 'dev'), ('TRAIN', 'eval')],
)
def test_other_names_of_splits(tmp_path, caplog, train, held_out):
  names = [f'{split}/{name}' for split in (train, held_out) for name in 'ab']
  touch(tmp_path, *spread(*names))
  assert lengths(tmp_path) == [20, 20, 20]
  assert not caplog.records


@pytest.mark.parametrize('split', ['val', 'valid', 'validation'])
@pytest.mark.parametrize('name', ['val', 'valid', 'validation'])
def test_split_names_mean_the_folder_that_exists(tmp_path, split, name):
  touch(tmp_path, *spread('train/a', 'train/b'), f'{name}/a/1.jpg')
  touch(tmp_path, 'test/a/1.jpg', 'test/b/1.jpg')
  assert (len(load(tmp_path, split)), len(load(tmp_path, 'test'))) == (1, 2)


def test_folders_beside_the_splits_are_reported(tmp_path, caplog):
  touch(tmp_path, *spread('train/a', 'train/b', 'val/a'), 'more/a/1.jpg')
  touch(tmp_path, 'labels/a.csv')
  assert lengths(tmp_path) == [20, 10, 10]
  (record,) = caplog.records
  assert record.message == (
    f'{tmp_path}/more: not a split, so its images, such as a/1.jpg (1 in all),'
    ' are not used'
  )


def test_all_that_is_left_out_is_reported_once(tmp_path, caplog):
  touch(tmp_path, *spread('a', 'b'), '1.jpg', '2.jpg', 'a/x.heic', 'b/y.HEIC')
  touch(tmp_path, *(f'empty{i}/notes.txt' for i in range(7)), 'b/x.avif')
  lengths(tmp_path)
  assert [record.message for record in caplog.records] == [
    f'{tmp_path}: {line}'
    for line in (
      'not classes, since they contain no image: empty0, empty1, empty2,'
      ' empty3, empty4 and 2 more',
      'images outside of the classes are left out: 2, such as 1.jpg',
      '.avif files are left out: 1, such as b/x.avif; convert them to JPEG or'
      ' PNG',
      '.heic files are left out: 2, such as a/x.heic; convert them to JPEG or'
      ' PNG',
    )
  ]


def test_what_a_held_out_folder_leaves_out_is_reported(tmp_path, caplog):
  touch(tmp_path, *spread('train/a', 'train/b', 'val/a'), 'val/1.jpg')
  lengths(tmp_path)
  (record,) = caplog.records
  assert record.message.startswith(f'{tmp_path}/val: images outside of the cl')


def test_names_are_escaped(tmp_path, caplog):
  touch(tmp_path, *spread('a', 'b'), '\x1b[2J\n/1.heic')
  lengths(tmp_path)
  assert 'contain no image: \\x1b[2J\\n' in caplog.text
  touch(tmp_path / 'one', *spread('\x1b[2J\n'))
  assert "class, '\\x1b[2J\\n'" in refused(tmp_path / 'one')


def test_names_of_splits_are_in_lower_case():
  names = [name for names in folder_layout.NAMES.values() for name in names]
  assert all(re.fullmatch('[a-z]+', name) for name in names)
