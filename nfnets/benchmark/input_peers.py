"""Input pipelines of other libraries, for the input benchmark.

This file imports nothing of the package: it is run by path, by a Python that
has the library, so TensorFlow and torch need not be installed next to JAX:

  python input_peers.py PEER FOLDER BATCH SIZE THREADS

It reads numbers of batches from standard input, one per line, and answers each
with the seconds that the pipeline took for so many batches after a warm-up.
"""

import pathlib
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

# Batches discarded before each measurement, because a pipeline may have
# prefetched them while it was idle.
WARM_UP = 8


def tf_data(
  paths: list[str], batch: int, size: int, threads: int
) -> Iterator[Any]:
  """tf.data with the published operations; decodes only what is cropped."""
  import tensorflow as tf

  def load(path: Any) -> Any:
    data = tf.io.read_file(path)
    begin, extent, _ = tf.image.sample_distorted_bounding_box(
      tf.image.extract_jpeg_shape(data),
      tf.zeros([1, 0, 4]),
      min_object_covered=0.1,
      aspect_ratio_range=(3 / 4, 4 / 3),
      area_range=(0.08, 1.0),
      max_attempts=10,
      use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], extent[:2]], axis=0)
    image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
    image = tf.image.resize(image, (size, size), 'bicubic')
    return tf.saturate_cast(image, tf.uint8)

  dataset = tf.data.Dataset.from_tensor_slices(paths)
  dataset = dataset.shuffle(len(paths)).repeat()
  dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE)
  dataset = dataset.batch(batch, drop_remainder=True)
  options = tf.data.Options()
  options.threading.private_threadpool_size = threads
  dataset = dataset.prefetch(2).with_options(options)
  return iter(dataset.as_numpy_iterator())


def _pillow_crop(path: str, size: int) -> Any:
  """Decodes, crops, and resizes with antialiasing, as timm does.

  Returns:
    uint8[size, size, 3].
  """
  import numpy as np
  from PIL import Image

  with Image.open(path) as file:
    image = file.convert('RGB')
  width, height = image.size
  box = (0, 0, width, height)
  for _ in range(10):
    area = random.uniform(0.08, 1.0) * width * height
    aspect = (4 / 3) ** random.uniform(-1.0, 1.0)
    w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
    if w <= width and h <= height:
      left, top = random.randint(0, width - w), random.randint(0, height - h)
      box = (left, top, left + w, top + h)
      break
  crop = image.crop(box).resize((size, size), Image.Resampling.BICUBIC)
  return np.asarray(crop)


def pillow(
  paths: list[str], batch: int, size: int, threads: int
) -> Iterator[Any]:
  """Pillow, one image after another on one core."""
  import numpy as np

  del threads
  while True:
    chosen = random.choices(paths, k=batch)
    yield np.stack([_pillow_crop(path, size) for path in chosen])


class _PillowFiles:
  """A map-style dataset for torch's DataLoader."""

  def __init__(self, paths: list[str], size: int):
    self._paths = paths
    self._size = size

  def __len__(self) -> int:
    return 10**7

  def __getitem__(self, index: int) -> Any:
    return _pillow_crop(self._paths[index % len(self._paths)], self._size)


def data_loader(
  paths: list[str], batch: int, size: int, threads: int
) -> Iterator[Any]:
  """A torch DataLoader around Pillow, with one worker process per thread."""
  import torch.utils.data

  return iter(
    torch.utils.data.DataLoader(
      _PillowFiles(paths, size),
      batch_size=batch,
      num_workers=threads,
      collate_fn=_collate,
    )
  )


def _collate(images: list[Any]) -> Any:
  """Stacks images into one tensor uint8[B, H, W, 3], as timm collates."""
  import numpy as np
  import torch

  return torch.from_numpy(np.stack(images))


# (paths, batch, size, threads) -> an endless iterator over uint8[B, S, S, 3],
# NumPy arrays or torch tensors. Their types are `Any` in this file, since the
# libraries are imported only where they are used.
PEERS: dict[str, Callable[[list[str], int, int, int], Iterator[Any]]] = {
  'tf.data': tf_data,
  'pillow': pillow,
  'data_loader': data_loader,
}


def seconds_of(batches: Iterator[Any], count: int) -> float:
  """Times `count` batches after a warm-up.

  Args:
    batches: the pipeline.
    count: number of batches to time.
  """
  for _ in range(WARM_UP):
    next(batches)
  start = time.perf_counter()
  for _ in range(count):
    next(batches)
  return time.perf_counter() - start


def main() -> None:
  """Answers requests until standard input ends."""
  peer, folder, batch, size, threads = sys.argv[1:]
  paths = sorted(map(str, pathlib.Path(folder).rglob('*.jpg')))
  batches = PEERS[peer](paths, int(batch), int(size), int(threads))
  for line in sys.stdin:
    print(seconds_of(batches, int(line)), flush=True)


if __name__ == '__main__':
  main()
