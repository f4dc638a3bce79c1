import numpy as np

from nfnets.data import places


def test_every_order_is_a_permutation():
  for epoch in (0, 1, 10**6):
    order = places.epoch_order(2**64 - 1, epoch, 100)
    assert sorted(order.tolist()) == list(range(100))


def test_seeds_do_not_share_epochs():
  # As they would if the epoch's number were added to the seed.
  orders = {
    tuple(places.epoch_order(seed, epoch, 30))
    for seed in range(5)
    for epoch in range(5)
  }
  assert len(orders) == 25


def test_draws_depend_on_the_place_alone():
  whole = places.crop_draws(7, 0, 50)
  np.testing.assert_array_equal(whole[20:33], places.crop_draws(7, 20, 13))
  assert 0 <= whole.min() and whole.max() < 1
  assert len(np.unique(whole)) == whole.size
