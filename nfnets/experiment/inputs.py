"""Builds data sources, batches and preprocessing from the settings.

Training, evaluation and previews use these functions, so all of them see the
same images.
"""

import logging
import math

import jax
import ml_collections
import numpy as np

from nfnets import errors, losses, models
from nfnets.augment import ops
from nfnets.augment import preprocess as preprocess_lib
from nfnets.data import (
  batches,
  crops,
  growth,
  pipeline,
  positions,
  precheck,
  sources,
)
from nfnets.data import source as source_lib

_log = logging.getLogger(__name__)


def load_source(
  config: ml_collections.ConfigDict, use: str
) -> source_lib.Source:
  """Opens a split of the data set.

  Args:
    config: the settings.
    use: 'train' or 'eval' for the splits in the settings; 'valid' for the
      split that training evaluates on, which with `data.held_out` is the part
      of the training images that is held out; 'test' for the test split.

  Raises:
    UserError: as in `sources.load_source`; or the classes cannot be balanced,
      because the labels are not known.
  """
  data = config.data
  splits = {'train': data.train_split, 'eval': data.eval_split, 'test': 'test'}
  splits['valid'] = 'valid' if data.held_out else data.eval_split
  source = sources.load_source(
    config.dataset,
    splits[use],
    data_dir=data.data_dir or None,
    held_out=data.held_out,
  )
  if use == 'train':
    _classes_to_balance(config, source)  # An error before anything slow starts.
  return source


def class_weights(
  config: ml_collections.ConfigDict, source: source_lib.Source
) -> np.ndarray | None:
  """Returns the factors on the loss of each class, float32[K], or None.

  Args:
    config: the settings.
    source: the training split.

  Raises:
    UserError: the numbers of images in the classes are not known.
  """
  if config.train.class_weights == 'none':
    return None
  labels = sources.labels(source, 'config.train.class_weights=balanced')
  counts = np.bincount(labels, minlength=source.num_classes)
  return losses.balanced_weights(counts)


def check_readable(
  config: ml_collections.ConfigDict, source: source_lib.Source
) -> None:
  """Checks a sample of a split, before anything slow starts.

  Raises:
    UserError: too many of its images are unreadable.
  """
  precheck.check(source, _reading(config).policy, config.data.max_pixels)


def image_size(config: ml_collections.ConfigDict, model: models.Model) -> int:
  """Returns the side of the training images at the end of a run, pixels."""
  return config.data.image_size or model.config.train_size


def image_sizes(
  config: ml_collections.ConfigDict, model: models.Model, total_steps: int
) -> tuple[growth.Stage, ...]:
  """Returns the stages of a run with the sizes of their training images.

  Args:
    config: the settings.
    model: the network, which may determine the size.
    total_steps: length of the run.

  Raises:
    UserError: `data.progressive_size` is not below the final size.
  """
  smallest = config.data.progressive_size
  largest = image_size(config, model)
  if not smallest:
    return growth.constant(largest)
  if smallest >= largest:
    raise errors.UserError(
      f'config.data.progressive_size is {smallest}: it must be below the size'
      f' of the training images, which is {largest}'
      f' (config.data.image_size={config.data.image_size}), or 0'
    )
  return growth.stages(smallest, largest, total_steps)


def eval_size(config: ml_collections.ConfigDict, model: models.Model) -> int:
  """Returns the side of the evaluation images in pixels.

  Unless set, it is that of the training images if that is set, and otherwise
  the model's. The ratio of the model's two sizes does not suit small images: a
  narrow F0, trained on flowers at 64 pixels, classified 59% of held-out ones
  correctly at 64 pixels, 53% at 85 and 40% at 160.
  """
  data = config.data
  return data.eval_size or data.image_size or model.config.test_size


def eval_batch_size(
  config: ml_collections.ConfigDict, examples: int, device_count: int
) -> int:
  """Returns the number of images per evaluation batch, over all devices.

  By default a device evaluates as many images together as it trains on, at
  most; the batches are as equal as possible, since the last one is padded.

  Args:
    config: the settings.
    examples: number of images in the split.
    device_count: number of devices in all processes; divides the result.
  """
  examples = max(1, examples)  # The pipeline refuses an empty split.
  size = config.eval.batch_size
  if not size:
    micro_batches = device_count * config.train.accumulation
    size = max(1, config.train.batch_size // micro_batches) * device_count
    size = math.ceil(examples / math.ceil(examples / size))
  return math.ceil(min(size, examples) / device_count) * device_count


def train_batches(
  config: ml_collections.ConfigDict,
  source: source_lib.Source,
  model: models.Model,
  images_per_example: int,
  sizes: tuple[growth.Stage, ...] | None = None,
) -> batches.Batches:
  """Builds this process's training batches; batch k belongs to step k.

  Args:
    config: the settings.
    source: the training split.
    model: the network, which may determine the image size.
    images_per_example: raw images per augmented one, see `Preprocess`.
    sizes: from `image_sizes`; None: all images have their final size.
  """
  return pipeline.train_batches(
    source,
    batch_size=config.train.batch_size * images_per_example,
    image_size=sizes or image_size(config, model),
    seed=config.seed,
    classes=_classes_to_balance(config, source),
    area_range=config.data.area_range,
    aspect_range=config.data.aspect_range,
    scaled_decoding=config.data.scaled_decoding,
    reading=_reading(config),
  )


def _classes_to_balance(
  config: ml_collections.ConfigDict, source: source_lib.Source
) -> positions.Classes | None:
  """Returns the classes to show equally often; None if the images are."""
  if config.data.sampling == 'uniform':
    return None
  labels = sources.labels(source, 'config.data.sampling=balanced')
  return positions.Classes(labels)


def eval_batches(
  config: ml_collections.ConfigDict,
  source: source_lib.Source,
  model: models.Model,
  like: source_lib.Source | None = None,
) -> batches.Batches:
  """Builds this process's evaluation batches, each image exactly once.

  Warns if the preset is not meant for images this small.

  Args:
    config: the settings.
    source: the split.
    model: the network, which may determine the image size.
    like: another split; the batches get the size of its batches, for which the
      program is compiled and the user has been warned. None: their own.
  """
  if like is None:
    _warn_of_cropping(config, eval_size(config, model))
  examples = len(source if like is None else like)
  return pipeline.eval_batches(
    source,
    batch_size=eval_batch_size(config, examples, jax.device_count()),
    image_size=eval_size(config, model),
    preset=config.data.eval_preset,
    crop_pct=model.config.crop_pct,
    crop_mode=model.config.crop_mode,
    reading=_reading(config),
  )


def _reading(config: ml_collections.ConfigDict) -> pipeline.Reading:
  return pipeline.Reading(
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    num_threads=config.data.num_threads or None,
    num_workers=config.data.num_workers,
    strict=config.data.strict,
    max_unreadable_share=config.data.max_unreadable_share,
    max_pixels=config.data.max_pixels,
  )


def make_preprocess(
  config: ml_collections.ConfigDict, model: models.Model
) -> preprocess_lib.Preprocess:
  """Builds the function that augments and normalizes a training batch.

  Warns if RandAugment is not meant for images this small.
  """
  augment = config.augment
  layers = augment.randaugment_layers
  if layers:
    smallest = config.data.progressive_size or image_size(config, model)
    _warn_of_gray(augment, smallest)
  return preprocess_lib.make_preprocess(
    num_classes=model.config.num_classes,
    mean=model.config.mean,
    std=model.config.std,
    flip=augment.flip,
    randaugment=(layers, augment.randaugment_magnitude) if layers else None,
    randaugment_relative=augment.randaugment_relative,
    mixup_alpha=augment.mixup_alpha or None,
    cutmix_alpha=augment.cutmix_alpha or None,
    augment_before_mix=augment.augment_before_mix,
    reference_quirks=augment.reference_quirks,
  )


def _warn_of_gray(augment: ml_collections.ConfigDict, size: int) -> None:
  """Warns if one translation leaves less than half of an image."""
  magnitude = augment.randaugment_magnitude
  relative = augment.randaugment_relative
  shift = magnitude * ops.distance(ops.TRANSLATION, size, relative) / 10
  if shift <= size / 2:
    return
  remedy = (
    'reduce it'
    if relative
    else '--config.augment.randaugment_relative=true scales distances with the'
    ' image'
  )
  _log.warning(
    'RandAugment shifts images of %d pixels by %.0f pixels and fills the rest'
    ' with gray (config.augment.randaugment_magnitude=%s): %s',
    *(size, shift, magnitude, remedy),
  )


def _warn_of_cropping(config: ml_collections.ConfigDict, size: int) -> None:
  """Warns if a published preset leaves less than 3/4 of an image's sides."""
  preset = config.data.eval_preset
  shown = size / (size + crops.MARGIN)
  if preset != 'timm' and shown < 3 / 4:
    _log.warning(
      'config.data.eval_preset=%s shows only the central %.0f%% of each side in'
      ' images of %d pixels: --config.data.eval_preset=timm shows more',
      *(preset, 100 * shown, size),
    )
