import numpy as np
from sklearn import datasets

from nfnets.data import images, sources
from nfnets.data.digits import digits_dataset_builder


def test_split_is_fixed_and_stratified():
  labels = datasets.load_digits().target
  splits = digits_dataset_builder.split_indices(labels)
  train, test = splits['train'], splits['test']
  assert (len(train), len(test)) == (1437, 360)
  assert sorted([*train, *test]) == list(range(1797))
  fraction = np.bincount(labels[test]) / np.bincount(labels)
  assert fraction.min() > 0.19 and fraction.max() < 0.21
  # Changing the split would make results incomparable.
  assert test[:5].tolist() == [0, 2, 4, 17, 21]
  assert (int(train.sum()), int(test.sum())) == (1291005, 322701)


def test_stored_images_are_those_of_scikit_learn():
  digits = datasets.load_digits()
  splits = digits_dataset_builder.split_indices(digits.target)
  for split, indices in splits.items():
    source = sources.load_source('digits', split)
    assert len(source) == len(indices)
    assert source.class_names == tuple('0123456789')
    # TFDS stores them in another order.
    stored = sorted(
      (int(source[i]['label']), images.decode(source[i]['image']).tobytes())
      for i in range(len(source))
    )
    gray = np.round(digits.images[indices] * 255 / 16).astype(np.uint8)
    expected = sorted(
      (int(label), np.repeat(image[..., None], 3, -1).tobytes())
      for image, label in zip(gray, digits.target[indices], strict=True)
    )
    assert stored == expected
