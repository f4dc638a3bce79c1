"""TFDS builder: scikit-learn's handwritten digits, 1,797 real images."""

import io
from collections.abc import Iterator
from typing import TypedDict

import cv2
import numpy as np
import tensorflow_datasets as tfds
from sklearn import datasets

_HOLD_OUT_EVERY = 5


class _Example(TypedDict):
  image: io.BytesIO
  label: int


def split_indices(labels: np.ndarray) -> dict[str, np.ndarray]:
  """Splits the examples deterministically, and in every class equally.

  The examples are sorted by class (stably). Every fifth of them, starting with
  the first, is held out: 360 of 1,797.

  Args:
    labels: int[N].

  Returns:
    {'train': int[N - ceil(N / 5)], 'test': int[ceil(N / 5)]}, ascending.
  """
  by_class = np.argsort(labels, kind='stable')
  held_out = np.zeros(len(labels), bool)
  held_out[by_class[::_HOLD_OUT_EVERY]] = True
  return {
    'train': np.flatnonzero(~held_out),
    'test': np.flatnonzero(held_out),
  }


def _encode_png(gray: np.ndarray) -> bytes:
  """Encodes uint8[H, W] as an RGB PNG."""
  return cv2.imencode('.png', cv2.merge([gray, gray, gray]))[1].tobytes()


class Builder(tfds.core.GeneratorBasedBuilder):
  """Images uint8[8, 8, 3], gray levels 0..16 scaled to 0..255; ten classes."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Stratified split, 1,437 train and 360 test.'}

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(8, 8, 3), encoding_format='png'),
          'label': tfds.features.ClassLabel(names=[str(i) for i in range(10)]),
        }
      ),
      supervised_keys=('image', 'label'),
      homepage='https://scikit-learn.org/stable/datasets/toy_dataset.html',
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[str, _Example]]]:
    del dl_manager  # The images come with scikit-learn.
    digits = datasets.load_digits()
    splits = split_indices(digits.target)
    return {
      name: self._generate_examples(digits.images, digits.target, indices)
      for name, indices in splits.items()
    }

  def _generate_examples(
    self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
  ) -> Iterator[tuple[str, _Example]]:
    for index in indices:
      gray = np.round(images[index] * (255 / 16)).astype(np.uint8)
      yield (
        f'{index:04d}',
        {
          # Encoded here, since TFDS would need TensorFlow to do it.
          'image': io.BytesIO(_encode_png(gray)),
          'label': int(labels[index]),
        },
      )
