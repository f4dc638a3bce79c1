import numpy as np
import pytest

from nfnets import errors
from nfnets.data import growth, pipeline, positions, sources
from tests.data import pictures

KEYS = ('image', 'label', 'mask')


class ArraySource:
  """Images whose pixels all equal their index in the source."""

  name, split, num_classes = 'numbers', 'train', 256
  class_names = tuple(map(str, range(256)))

  def __init__(self, length, labels=None):
    self.length = length
    self.labels = labels

  def __len__(self):
    return self.length

  def __getitem__(self, index):
    label = index if self.labels is None else self.labels[index]
    image = np.full((6, 9, 3), index, np.uint8)
    return {'image': image, 'label': label, 'id': f'number {index}'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp('digits')
  pictures.write_class_folders(root, range(120))
  return root


def folder_source(folder):
  return sources.load_source(f'folder:{folder}', 'all')


def train(source, batch_size=16, seed=3, **reading):
  return pipeline.train_batches(
    source,
    batch_size=batch_size,
    image_size=16,
    seed=seed,
    reading=pipeline.Reading(**reading),
  )


def test_the_size_of_a_batch_depends_on_its_number(folder):
  stages = (growth.Stage(0, 8), growth.Stage(2, 16), growth.Stage(5, 24))
  source = folder_source(folder)

  def grown(**reading):
    return pipeline.train_batches(
      source,
      batch_size=16,
      image_size=stages,
      seed=3,
      reading=pipeline.Reading(**reading),
    )

  sizes = [grown()[k]['image'].shape for k in range(6)]
  assert sizes == [(16, s, s, 3) for s in (8, 8, 16, 16, 16, 24)]
  # At its size, a batch is that of a run with only this size.
  assert_same(grown()[3], train(source)[3])
  # Also where a run resumes, and in each process.
  for start in (1, 2, 4):
    stream = grown().iterate(start)
    for number in range(start, 6):
      assert_same(next(stream), grown()[number])
    stream.close()
  halves = [grown(process_index=i, process_count=2)[5] for i in range(2)]
  for key in KEYS:
    both = np.concatenate([half[key] for half in halves])
    np.testing.assert_array_equal(both, grown()[5][key])


def assert_same(one, other):
  assert one.keys() == other.keys() == set(KEYS)
  for key in KEYS:
    np.testing.assert_array_equal(one[key], other[key])


def test_shapes_and_dtypes(folder):
  batch = train(folder_source(folder))[0]
  assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
    'image': ((16, 16, 16, 3), np.uint8),
    'label': ((16,), np.int32),
    'mask': ((16,), np.bool_),
  }
  assert batch['mask'].all()


def test_threads_do_not_change_the_first_hundred_batches(
  folder,
):
  source = folder_source(folder)
  one = train(source, num_threads=1)
  batches = [one[k] for k in range(100)]
  for num_threads in (2, 8):
    other = train(source, num_threads=num_threads)
    for k in range(100):
      assert_same(batches[k], other[k])


def test_slices_of_processes_make_up_the_batch(folder):
  source = folder_source(folder)
  whole = train(source)
  for count in (2, 4):
    parts = [
      train(source, process_index=index, process_count=count)
      for index in range(count)
    ]
    for k in range(100 if count == 2 else 20):
      slices = [part[k] for part in parts]
      joined = {key: np.concatenate([s[key] for s in slices]) for key in KEYS}
      assert_same(whole[k], joined)


def test_iterating_from_any_step_continues_the_sequence(folder):
  batches = train(folder_source(folder))
  for start in (0, 1, 13):
    iterator = batches.iterate(start)
    for k in range(start, start + 5):
      assert_same(next(iterator), batches[k])
    iterator.close()
    with pytest.raises(StopIteration):
      next(iterator)


def test_every_epoch_is_another_permutation():
  batches = train(ArraySource(50), batch_size=20)
  labels = np.concatenate([batches[k]['label'] for k in range(10)])
  epochs = labels.reshape(4, 50)
  for epoch in epochs:
    assert sorted(epoch) == list(range(50))
  assert len({tuple(epoch) for epoch in epochs}) == 4


def test_image_and_label_belong_together():
  batch = train(ArraySource(200), batch_size=64)[2]
  expected = np.broadcast_to(
    batch['label'][:, None, None, None], batch['image'].shape
  )
  np.testing.assert_array_equal(batch['image'], expected)


def test_seed_changes_order_and_crops(folder):
  source = folder_source(folder)
  one, other = train(source, seed=3)[0], train(source, seed=4)[0]
  assert (one['label'] != other['label']).any()
  draws = [positions.crop_draws(seed, 0, 4) for seed in (3, 4)]
  assert (draws[0] != draws[1]).all()


def test_a_source_smaller_than_the_batch_wraps():
  batch = train(ArraySource(3), batch_size=10)[0]
  assert np.bincount(batch['label']).tolist() in (
    [4, 3, 3],
    [3, 4, 3],
    [3, 3, 4],
  )


@pytest.mark.parametrize(
  ('length', 'settings', 'shown'),
  [
    (0, {}, 'no examples'),
    (5, {'batch_size': 10, 'process_count': 4}, '10.* 4 .* 8 and 12'),
    (5, {'batch_size': 0}, 'batch size 0'),
    (5, {'seed': -1}, '-1'),
  ],
)
def test_impossible_settings_are_one_line(length, settings, shown):
  with pytest.raises(errors.UserError, match=shown):
    train(ArraySource(length), **settings)


def test_training_has_no_length():
  batches = train(ArraySource(5))
  with pytest.raises(TypeError, match='no end'):
    len(batches)
  with pytest.raises(IndexError, match='-1'):
    batches[-1]


@pytest.mark.parametrize('label', [-1, 10])
def test_label_out_of_range_names_the_record(label):
  source = ArraySource(4, [0, 9, label, 3])
  source.num_classes = 10
  for batches in (train(source), evaluate(source, 2)):
    with pytest.raises(errors.UserError, match=f'number 2: label {label} .*10'):
      list(zip(range(2), batches.iterate(), strict=False))


def evaluate(source, batch_size, **reading):
  return pipeline.eval_batches(
    source,
    batch_size=batch_size,
    image_size=8,
    reading=pipeline.Reading(**reading),
  )


@pytest.mark.parametrize('length', [1, 7, 16, 33])
@pytest.mark.parametrize(
  ('batch_size', 'process_count'), [(1, 1), (5, 1), (8, 2), (12, 4), (64, 8)]
)
def test_evaluation_counts_each_example_once(length, batch_size, process_count):
  source = ArraySource(length)
  parts = [
    evaluate(
      source, batch_size, process_index=index, process_count=process_count
    )
    for index in range(process_count)
  ]
  assert {len(part) for part in parts} == {-(-length // batch_size)}
  seen = []
  for part in parts:
    for k in range(len(part)):
      batch = part[k]
      assert batch['image'].shape == (batch_size // process_count, 8, 8, 3)
      assert not batch['image'][~batch['mask']].any()
      seen += batch['label'][batch['mask']].tolist()
  assert sorted(seen) == list(range(length))


def test_evaluation_is_in_order_and_ends():
  batches = evaluate(ArraySource(10), 4)
  rows = list(batches)
  labels = np.concatenate([row['label'][row['mask']] for row in rows])
  assert labels.tolist() == list(range(10))
  assert rows[-1]['mask'].tolist() == [True, True, False, False]
  with pytest.raises(IndexError, match='3'):
    batches[3]


def test_balanced_batches_show_classes_equally_often(folder):
  source = folder_source(folder)
  classes = positions.Classes(source.labels)
  batches = [
    pipeline.train_batches(
      source,
      batch_size=24,
      image_size=8,
      seed=3,
      classes=classes,
      reading=pipeline.Reading(num_threads=1, process_index=k, process_count=2),
    )
    for k in range(2)
  ]
  labels = [b[k]['label'] for k in range(5) for b in batches]
  order = positions.balanced_order(3, 0, classes)
  assert np.concatenate(labels).tolist() == source.labels[order].tolist()
  assert np.ptp(np.bincount(np.concatenate(labels))) <= 1
