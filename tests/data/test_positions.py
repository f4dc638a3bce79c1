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
