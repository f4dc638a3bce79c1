"""Which examples of a prepared data set make up a split."""

import pytest

from nfnets import errors
from nfnets.data import parts

BOTH = {'train': 1000, 'test': 300}


@pytest.mark.parametrize(
  'split, held_out, expected',
  [
    ('train', 0.0, ('train', 0, 1000)),
    ('valid', 0.0, ('test', 0, 300)),
    ('test', 0.0, ('test', 0, 300)),
    ('train', 0.1, ('train', 0, 900)),
    ('valid', 0.1, ('train', 900, 1000)),
    ('test', 0.1, ('test', 0, 300)),
    ('valid', 1e-9, ('train', 999, 1000)),
  ],
)
def test_the_end_of_train_is_held_out(split, held_out, expected):
  assert parts.find('name', split, BOTH, held_out) == expected


@pytest.mark.parametrize(
  'sizes',
  [
    {'train': 10, 'validation': 5, 'test': 5},
    {'train': 10, 'validation': 5},
    {'train': 10},
    {'test': 10},
  ],
)
@pytest.mark.parametrize('split', ['train', 'valid'])
def test_only_train_beside_test_can_be_divided(sizes, split):
  with pytest.raises(errors.UserError) as caught:
    parts.find('name', split, sizes, 0.1)
  assert str(caught.value) == (
    'config.data.held_out is 0.1, which needs a data set with the splits train'
    f' and test and no other; it has {", ".join(sizes)} (name): set it to 0'
  )


def test_imagenet_has_the_published_splits():
  sizes = {'train': 1_281_167, 'validation': 50_000}
  found = [parts.find('imagenet2012', s, sizes) for s in ('valid', 'test')]
  assert found == [('train', 0, 10_000), ('validation', 0, 50_000)]
