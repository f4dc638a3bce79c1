import pytest

from nfnets.training import dataset

DATA: dict[str, object] = {
  'name': 'folder:/pets',
  'class_names': ['cat', 'dog'],
  'train_images': 40,
  'eval_images': 10,
}


def test_a_description_is_known_from_other_json():
  assert dataset.is_dataset(DATA)
  for key in DATA:
    for value in (None, 1.5, True, -1, [1], {}):
      assert not dataset.is_dataset({**DATA, key: value}), (key, value)
  assert not dataset.is_dataset([DATA])


@pytest.mark.parametrize(
  ('change', 'text'),
  [
    ({}, ''),
    ({'name': 'folder:/moved', 'eval_images': 3}, ''),
    ({'train_images': 41}, 'training images: 40 -> 41'),
    ({'class_names': ['dog', 'cat']}, 'the classes have another order'),
    (
      {'class_names': ['dog', 'zebra']},
      'removed classes: cat; new classes: zebra',
    ),
  ],
)
def test_changes_that_affect_training(change, text):
  assert dataset.changes(DATA, {**DATA, **change}) == text
