"""uint8 images and integer labels -> normalized images and soft labels.

This runs inside the train step, on the accelerator. All random numbers of an
example come from `fold_in(key, index)`, where `index` is the example's index in
the global batch. Neither the number of devices nor the size of a micro-batch
changes what an example becomes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nfnets.augment import mixing
from nfnets.augment import randaugment as randaugment_lib

# An image and its soft label, or a batch of them.
Examples = tuple[jax.Array, jax.Array]
# (key, levels[n, H, W, 3]) -> uint8[n, H, W, 3], or the levels if it is off
Augment = Callable[[jax.Array, jax.Array], jax.Array]
# See `Preprocess.apply`.
Apply = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], Examples]
# (key, index, levels[n, H, W, 3], labels[n, K]) -> levels[H, W, 3], labels[K]
Mix = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], Examples]


class Preprocess(NamedTuple):
  """Turns a raw batch of the data pipeline into a batch for the network.

  Attributes:
    apply: (key, images, labels, index) -> (images, soft labels): the key of the
      step, uint8[N, S, S, 3], int32[N] and int32[B], the indices of the B
      outputs in the global batch -> float32[B, S, S, 3] and float32[B, K].
      N is B * images_per_example.
    images_per_example: number of raw images per output: 2 with MixUp or CutMix
      (output i is made from images 2 i and 2 i + 1), otherwise 1.
  """

  apply: Apply
  images_per_example: int


def normalize(
  images: jax.Array,
  mean: Sequence[float],
  std: Sequence[float],
) -> jax.Array:
  """Shifts and scales each channel by the network's statistics.

  Args:
    images: uint8 or float32[..., 3], levels from 0 to 255.
    mean: mean of each channel, as a fraction of 255.
    std: standard deviation of each channel, as a fraction of 255.

  Returns:
    float32[..., 3], `(images / 255 - mean) / std`.
  """
  shape = (1,) * (images.ndim - 1) + (-1,)
  shift = np.reshape(255 * np.asarray(mean), shape).astype(np.float32)
  scale = np.reshape(1 / (255 * np.asarray(std)), shape).astype(np.float32)
  return (images.astype(jnp.float32) - shift) * scale


def make_preprocess(
  *,
  num_classes: int,
  mean: Sequence[float],
  std: Sequence[float],
  flip: bool,
  randaugment: tuple[int, float] | None = None,
  randaugment_relative: bool = False,
  mixup_alpha: float | None = None,
  cutmix_alpha: float | None = None,
  augment_before_mix: bool = False,
  reference_quirks: bool = False,
) -> Preprocess:
  """Creates the preprocessing of training batches.

  The steps are: flip each image, mix the pair, apply RandAugment to the result,
  normalize.

  Args:
    num_classes: K, the length of a soft label.
    mean: mean of each channel, as a fraction of 255.
    std: standard deviation of each channel, as a fraction of 255.
    flip: mirror each image left to right with probability 1/2.
    randaugment: number of operations and their magnitude; None disables it.
    randaugment_relative: scale RandAugment's distances with the image instead
      of the published pixels (see `ops`).
    mixup_alpha: parameter of MixUp's Beta distribution, > 0 (published 0.2);
      None disables MixUp.
    cutmix_alpha: parameter of CutMix's Beta distribution, > 0 (published 1);
      None disables CutMix. If both are enabled, examples at even indices of
      the batch get MixUp, those at odd indices CutMix.
    augment_before_mix: apply RandAugment to each image before mixing instead.
    reference_quirks: RandAugment as in the published code (see `ops`).

  Returns:
    The preprocessing.

  Raises:
    ValueError: an alpha is not above 0.

  References:
    Brock et al, `High-Performance Large-Scale Image Recognition Without
    Normalization <https://arxiv.org/abs/2102.06171>`_, 2021, appendix A.
  """
  mix = _make_mix(mixup_alpha, cutmix_alpha)
  images_per_example = 2 if mixup_alpha or cutmix_alpha else 1
  augment_options = (randaugment, randaugment_relative, reference_quirks)

  def make_example(
    augment: Augment,
    key: jax.Array,
    index: jax.Array,
    images: jax.Array,
    labels: jax.Array,
  ) -> Examples:
    key = jax.random.fold_in(key, index)
    flip_key, mix_key, augment_key = jax.random.split(key, 3)
    labels = jax.nn.one_hot(labels, num_classes)
    if flip:
      images = _flip(flip_key, images)
    if augment_before_mix:
      images = augment(augment_key, images)
    image, label = mix(mix_key, index, images, labels)
    if not augment_before_mix:
      image = augment(augment_key, image[None])[0]
    return normalize(image, mean, std), label

  def make_examples(for_tpu: bool) -> Apply:
    augment = _make_augment(*augment_options, for_tpu=for_tpu)
    example = functools.partial(make_example, augment)
    return functools.partial(_map_examples, example, images_per_example)

  apply = make_examples(for_tpu=False)
  if randaugment is not None:
    apply = _choose(tpu=make_examples(for_tpu=True), default=apply)
  return Preprocess(apply, images_per_example)


def _choose(*, tpu: Apply, default: Apply) -> Apply:
  """Leaves the choice to the platform that the program is compiled for.

  This is outside of `jax.vmap`, which would trace both ways several times.
  """
  return functools.partial(jax.lax.platform_dependent, tpu=tpu, default=default)


def _map_examples(
  make_example: Mix,
  images_per_example: int,
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  index: jax.Array,
) -> Examples:
  """Groups the raw images by example and makes all examples."""
  if images.shape[0] != images_per_example * index.shape[0]:
    raise ValueError(
      f'{index.shape[0]} examples of {images_per_example} images each need '
      f'{images_per_example * index.shape[0]} images, got {images.shape[0]}'
    )
  grouped = index.shape + (images_per_example,)
  return jax.vmap(functools.partial(make_example, key))(
    index,
    images.reshape(grouped + images.shape[1:]),
    labels.reshape(grouped),
  )


def _flip(key: jax.Array, images: jax.Array) -> jax.Array:
  """Mirrors each image left to right with probability 1/2, independently."""
  mirrored = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
  return jnp.where(mirrored, images[:, :, ::-1], images)


def _make_augment(
  randaugment: tuple[int, float] | None,
  relative: bool,
  reference_quirks: bool,
  *,
  for_tpu: bool,
) -> Augment:
  if randaugment is None:
    return lambda key, images: images
  layers, magnitude = randaugment
  augment_image = functools.partial(
    randaugment_lib.randaugment,
    layers=layers,
    magnitude=magnitude,
    relative=relative,
    reference_quirks=reference_quirks,
    for_tpu=for_tpu,
  )

  def augment(key: jax.Array, images: jax.Array) -> jax.Array:
    keys = jax.random.split(key, images.shape[0])
    levels = jnp.clip(images, 0, 255).astype(jnp.uint8)
    return jax.vmap(augment_image)(keys, levels)

  return augment


def _make_mix(mixup_alpha: float | None, cutmix_alpha: float | None) -> Mix:
  """Creates MixUp, CutMix, both in alternation by index, or neither."""
  for alpha in (mixup_alpha, cutmix_alpha):
    if alpha is not None and alpha <= 0:
      raise ValueError(f'alpha is {alpha!r}: it must be above 0, or None')
  mixes: list[Callable[[jax.Array, jax.Array, jax.Array], Examples]] = []
  if mixup_alpha is not None:
    mixes.append(functools.partial(mixing.mixup, alpha=mixup_alpha))
  if cutmix_alpha is not None:
    mixes.append(functools.partial(mixing.cutmix, alpha=cutmix_alpha))

  def mix(
    key: jax.Array, index: jax.Array, images: jax.Array, labels: jax.Array
  ) -> Examples:
    if not mixes:
      return images[0], labels[0]
    return jax.lax.switch(index % len(mixes), mixes, key, images, labels)

  return mix
