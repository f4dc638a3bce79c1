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


def test_stored_ids_of_imagenet_are_shown_as_words():
  ids = class_names.imagenet_ids()
  assert ids[:2] == ('n01440764', 'n01443537') and len(set(ids)) == 1000
  assert class_names.resolve(1000, ids) == class_names.imagenet()


def test_assumed_names():
  assert class_names.are_assumed(('class 0', 'class 1'))
  assert class_names.are_assumed(class_names.imagenet())
  assert not class_names.are_assumed(('cat', 'dog'))
  assert not class_names.are_assumed(('class 1', 'class 0'))


def test_classes_are_found_by_name():
  known = ('cat', 'dog', 'ape', 'dog')
  assert class_names.find(known, ('ape', 'cat')) == [2, 0]
  # 'dog' is ambiguous, unless both sides are the same.
  assert class_names.find(known, ('dog', 'zebra')) == [None, None]
  assert class_names.find(known, known) == [0, 1, 2, 3]
  words = class_names.imagenet()
  assert class_names.find(words, ('n01443537', 'tench')) == [1, 0]
  crane = words.index('crane')
  ids = class_names.imagenet_ids()
  assert class_names.find(words, ('crane', ids[crane])) == [None, crane]
