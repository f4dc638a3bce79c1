import json

import numpy as np
import pytest

from nfnets import errors
from nfnets.data import imagenet, imagenet_tests, sources
from tests.data import pictures

WNIDS = ('n01440764', 'n01443537', 'n01484850')


def write(path, number):
  path.parent.mkdir(parents=True, exist_ok=True)
  image, _ = pictures.digit(number)
  path.write_bytes(pictures.encode(image))


def ids(source):
  return [source[i]['id'].rsplit('/', 1)[-1] for i in range(len(source))]


@pytest.mark.parametrize('name', ['imagenet_a', 'imagenet_r'])
@pytest.mark.parametrize('below', [True, False])
def test_folders_of_wordnet_ids(tmp_path, name, below):
  folder = tmp_path / name.replace('_', '-') if below else tmp_path
  for number, wnid in enumerate(WNIDS[1:]):
    write(folder / wnid / f'{number}.jpg', number)
  source = sources.load_source(name, 'test', tmp_path)
  assert source.class_names == WNIDS[1:]
  assert imagenet_tests.has_few_classes(source)
  assert imagenet_tests.present(source) == [0, 1]
  assert ids(source) == ['0.jpg', '1.jpg']
  with pytest.raises(errors.UserError, match='test set without training'):
    sources.load_source(name, 'train', tmp_path)


def test_folders_of_version_2_are_class_numbers(tmp_path):
  # As strings, '10' comes before '9'; and not every class needs an image.
  for number in (9, 10, 100, 999):
    folder = tmp_path / 'imagenetv2-matched-frequency-format-val'
    write(folder / str(number) / 'x.jpeg', number)
  source = sources.load_source('imagenet_v2', 'test', tmp_path)
  labels = [source[i]['label'] for i in range(len(source))]
  assert sorted(labels) == [9, 10, 100, 999]
  for label, index in zip(labels, range(4), strict=True):
    assert f'/{label}/' in source[index]['id']
  assert source.num_classes == 1000
  assert not imagenet_tests.has_few_classes(source)


def test_a_folder_that_is_no_class_is_an_error(tmp_path):
  write(tmp_path / '9' / 'x.jpeg', 0)
  write(tmp_path / '1000' / 'x.jpeg', 0)
  with pytest.raises(errors.UserError, match='1000: not one of the 1000'):
    sources.load_source('imagenet_v2', 'test', tmp_path)


def test_a_missing_folder_is_not_prepared(tmp_path):
  with pytest.raises(errors.UserError, match='is not prepared'):
    sources.load_source('imagenet_a', 'test', tmp_path)


def real(root, labels):
  """Writes validation images, all of the first class, and ReaL's labels."""
  for number, wnid in enumerate(WNIDS):
    write(root / 'train' / wnid / f'{wnid}_1.JPEG', number)
  for number in range(1, len(labels) + 1):
    name = f'ILSVRC2012_val_{number:08d}.JPEG'
    write(root / 'val' / WNIDS[0] / name, number)
  (root / 'real.json').write_text(json.dumps(labels))


LABELS = [[0], [], [2, 1], [1], [0, 2], []]


def test_labels_of_real_follow_the_file_names(tmp_path):
  real(tmp_path, LABELS)
  source = sources.load_source('imagenet_real', 'test', tmp_path)
  assert isinstance(source, imagenet_tests.RealSource)
  numbers = [int(name[15:23]) for name in ids(source)]
  assert sorted(numbers) == [1, 3, 4, 5]  # Images without labels are left out.
  # In the order of TFDS.
  names = [b'ILSVRC2012_val_%08d.JPEG' % n for n in range(1, 7)]
  order = imagenet.tfds_order(names, 'validation')
  expected = [n + 1 for n in order if LABELS[n]]
  np.testing.assert_array_equal(numbers, expected)
  assert source.label_sets == [tuple(LABELS[n - 1]) for n in numbers]
  assert [source[i]['label'] for i in range(4)] == [
    labels[0] for labels in source.label_sets
  ]
  assert source.class_names == WNIDS and source.num_classes == 3


@pytest.mark.parametrize(
  'text, expected',
  [
    ('[[0]]', 'has labels for 1 images, but there are 6'),
    ('{', 'cannot be read'),
    ('[0, 1, 2, 3, 4, 5]', 'is not a list of lists of classes, 0 to 999'),
    ('[[1000], [], [], [], [], []]', 'is not a list of lists of classes'),
    (None, 'needs the labels of ReaL: put real.json at'),
  ],
)
def test_a_wrong_file_of_real_is_an_error(tmp_path, text, expected):
  real(tmp_path, LABELS)
  (tmp_path / 'real.json').unlink()
  if text:
    (tmp_path / 'real.json').write_text(text)
  with pytest.raises(errors.UserError) as caught:
    sources.load_source('imagenet_real', 'test', tmp_path)
  assert expected in str(caught.value) and '\n' not in str(caught.value)


def test_other_images_than_those_of_real_are_an_error(tmp_path):
  real(tmp_path, LABELS)
  for path in list((tmp_path / 'val' / WNIDS[0]).iterdir()):
    path.rename(path.with_name(f'other{path.name}'))
  with pytest.raises(errors.UserError, match='is not one of the 6 images'):
    sources.load_source('imagenet_real', 'test', tmp_path)
