"""Image sizes by stage, against values computed by hand."""

import pytest

from nfnets.data import growth


@pytest.mark.parametrize(
  'smallest, largest, total, expected',
  [
    # 128 + 32 * i.
    (128, 224, 100, [(0, 128), (25, 160), (50, 192), (75, 224)]),
    # 110.3 and 124.7 become multiples of 8, for those of 32 would not differ.
    (96, 139, 8, [(0, 96), (2, 112), (4, 128), (6, 139)]),
    # 42.7 and 53.3.
    (32, 64, 10, [(0, 32), (2, 40), (5, 56), (7, 64)]),
    # 133.3 and 166.7 become multiples of 32.
    (100, 200, 4, [(0, 100), (1, 128), (2, 160), (3, 200)]),
    # 26.7 and 29.3: neighbors of equal size are one stage.
    (24, 32, 8, [(0, 24), (4, 32)]),
    # 33.7 and 34.3 would become 32, which is below the smallest.
    (33, 35, 8, [(0, 33), (6, 35)]),
    # A run of two steps has no batch for the first and the third stage.
    (32, 64, 2, [(0, 40), (1, 64)]),
    (32, 64, 1, [(0, 64)]),
    (32, 32, 8, [(0, 32)]),
  ],
)
def test_sizes_grow_in_four_quarters(smallest, largest, total, expected):
  assert list(growth.stages(smallest, largest, total)) == expected


def test_the_size_of_a_batch():
  stages = growth.stages(32, 64, 10)
  sizes = [growth.size_of(stages, batch) for batch in range(12)]
  assert sizes == [32] * 2 + [40] * 3 + [56] * 2 + [64] * 5
  assert growth.size_of(growth.constant(48), 10**6) == 48
