import collections

from nfnets.weights import class_names


def test_imagenet():
  names = class_names.imagenet()
  assert len(names) == 1000
  assert names[0] == 'tench' and names[-1] == 'toilet tissue'
  counts = collections.Counter(names)
  assert [name for name, count in counts.items() if count > 1] == [
    'crane',
    'maillot',
  ]


def test_stored_names_come_first():
  stored = tuple(map(str, range(1000)))
  assert class_names.resolve(1000, stored) == stored
  assert class_names.resolve(2, ('cat', 'dog')) == ('cat', 'dog')


def test_default_names_depend_on_the_number_of_classes():
  assert class_names.resolve(1000, ()) == class_names.imagenet()
  # A new classifier has another number of classes than the stored names.
  assert class_names.resolve(3, ('a', 'b')) == ('class 0', 'class 1', 'class 2')
  assert class_names.resolve(0, ()) == ()
