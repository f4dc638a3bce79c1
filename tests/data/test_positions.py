import numpy as np

from nfnets.data import positions


def test_every_order_is_a_permutation():
  for epoch in (0, 1, 10**6):
    order = positions.epoch_order(2**64 - 1, epoch, 100)
    assert sorted(order.tolist()) == list(range(100))


def test_seeds_do_not_share_epochs():
  # They would if the epoch were added to the seed.
  orders = {
    tuple(positions.epoch_order(seed, epoch, 30))
    for seed in range(5)
    for epoch in range(5)
  }
  assert len(orders) == 25


def test_draws_depend_only_on_seed_and_position():
  whole = positions.crop_draws(7, 0, 50)
  np.testing.assert_array_equal(whole[20:33], positions.crop_draws(7, 20, 13))
  assert 0 <= whole.min() and whole.max() < 1
  assert len(np.unique(whole)) == whole.size


def test_all_bits_of_the_seed_count():
  seeds = [2**53, 2**53 + 1, 2**64 - 2, 2**64 - 1]
  firsts = {positions.crop_draws(seed, 0, 1)[0, 0] for seed in seeds}
  assert len(firsts) == len(seeds)


def test_numbers_do_not_change():
  # A run resumed with another version must see the same images.
  assert positions.epoch_order(3, 1, 8).tolist() == [1, 0, 6, 3, 4, 5, 7, 2]
  draws = positions.crop_draws(3, 5, 1)[0, :3]
  expected = [0.9515399371486226, 0.4424713557793488, 0.5227035338563739]
  np.testing.assert_array_equal(draws, expected)


LABELS = np.array([2, 0, 0, 2, 2, 0, 0, 0, 4, 0, 0])  # 7, 3 and 1 examples


def run_of(epochs, seed=3, labels=LABELS):
  classes = positions.Classes(labels)
  return [positions.balanced_order(seed, k, classes) for k in range(epochs)]


def test_balanced_classes_and_their_examples_are_shown_equally_often():
  orders = run_of(30)
  for count in range(1, 31):
    shown = np.concatenate(orders[:count])
    assert len(shown) == count * len(LABELS)
    classes = np.bincount(LABELS[shown])[[0, 2, 4]]
    assert np.ptp(classes) <= 1
    for label in (0, 2, 4):
      members = np.flatnonzero(LABELS == label)
      assert np.ptp(np.bincount(shown, minlength=11)[members]) <= 1
  for order in orders:
    assert np.ptp(np.bincount(LABELS[order])[[0, 2, 4]]) <= 1


def test_a_balanced_order_is_shuffled_and_depends_only_on_seed_and_epoch():
  later = positions.balanced_order(3, 7, positions.Classes(LABELS))
  np.testing.assert_array_equal(later, run_of(8)[7])
  assert len({tuple(order) for order in run_of(10)}) == 10
  assert len({tuple(run_of(1, seed)[0]) for seed in range(10)}) == 10
  assert (np.diff(LABELS[later]) != 0).sum() > 2  # not class by class


def test_examples_of_positions_span_epochs():
  classes = positions.Classes(LABELS)
  whole = np.concatenate(run_of(3))
  found = positions.examples(3, 5, 20, len(LABELS), classes)
  assert found == whole[5:25].tolist()


def test_equal_classes_are_each_shown_once_per_epoch():
  labels = np.arange(12) % 3
  for order in run_of(3, labels=labels):
    assert sorted(order) == list(range(12))


def test_balanced_numbers_do_not_change():
  expected = [8, 6, 3, 8, 1, 8, 10, 4, 3, 8, 5]
  assert run_of(2)[1].tolist() == expected
