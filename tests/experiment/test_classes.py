"""Classes are compared by name; tests/faults/test_classes.py runs it all."""

import pytest

from nfnets import errors
from nfnets.experiment import classes
from nfnets.weights import class_names

CAT_DOG = ('cat', 'dog')


def split(names, dataset='folder:/p'):
  names = tuple(names)
  examples = [{'label': i, 'id': '', 'image': b''} for i in range(len(names))]

  class Split(list):
    name, split, class_names = dataset, 'test', names
    num_classes = len(names)

  return Split(examples)


def labels(source):
  return [source[i]['label'] for i in range(len(source))]


def test_the_description_of_a_run():
  assert classes.describe(split(CAT_DOG), split('a')) == {
    'name': 'folder:/p',
    'class_names': ['cat', 'dog'],
    'train_images': 2,
    'eval_images': 1,
  }


@pytest.mark.parametrize(
  'names, expected',
  [
    (CAT_DOG, [0, 1]),
    (('dog', 'cat'), [1, 0]),
    (('dog',), [1]),
    (('cat',), [0]),
  ],
)
def test_labels_follow_the_names(caplog, names, expected):
  source = classes.align(split(names), CAT_DOG, 'net')
  assert labels(source) == expected
  assert source.class_names == CAT_DOG
  assert not caplog.records


@pytest.mark.parametrize(
  'known, names, message',
  [
    (CAT_DOG, ('cat', 'zebra'), "class 'zebra'; the 2 classes"),
    (CAT_DOG, ('0', '1'), "classes '0', '1';"),
    (CAT_DOG, ('cat', 'dog', 'ape'), "class 'ape';"),
    (('class 0', 'class 1'), ('a', 'b', 'c'), '3 classes where .* has 2'),
    (class_names.imagenet(), CAT_DOG, "'cat', 'dog';.* ImageNet"),
    (class_names.imagenet(), ('n01440764', 'x'), "class 'x';"),
  ],
)
def test_an_unknown_class_is_an_error(known, names, message):
  with pytest.raises(errors.UserError, match=message) as caught:
    classes.align(split(names), known, 'net')
  assert 'net' in str(caught.value) and 'folder:/p' in str(caught.value)


@pytest.mark.parametrize(
  'known, source, reason',
  [
    (('class 0', 'class 1'), split(CAT_DOG), 'net has no'),
    (CAT_DOG, split('01', 'tfds'), 'tfds has no'),
    (class_names.imagenet(), split(map(str, range(1000))), 'net has no'),
  ],
)
def test_without_names_the_numbers_are_compared_and_reported(
  caplog, known, source, reason
):
  assert classes.align(source, known, 'net') is source
  (record,) = caplog.records
  assert reason in record.getMessage()
  assert 'compared by number' in record.getMessage()


def test_imagenet_is_known_by_its_ids(caplog):
  ids = class_names.imagenet_ids()
  source = split(ids)
  assert classes.align(source, class_names.imagenet(), 'net') is source
  some = classes.align(split(ids[7:9]), class_names.imagenet(), 'net')
  assert labels(some) == [7, 8] and some.num_classes == 1000
  assert not caplog.records
