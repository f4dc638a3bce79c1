"""uint8 images and integer labels -> normalised images and soft labels.

Runs inside the train step, on the accelerator. Every random choice is drawn
from `fold_in(key, index)`, where `index` is the example's place in the whole
batch: neither the number of devices nor the size of a micro-batch changes
what an example becomes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from nfnets.augment import mixing
from nfnets.augment import randaugment as randaugment_lib

# (key, levels[n, H, W, 3]) -> uint8[n, H, W, 3]
Augment = Callable[[jax.Array, jax.Array], jax.Array]
# (key, index, levels[n, H, W, 3], float32[n, K]) -> the first axis gone
Mix = Callable[..., tuple[jax.Array, jax.Array]]


class Preprocess(NamedTuple):
  """What turns a batch of the pipeline into a batch for the network."""

  # (key, uint8[N, S, S, 3], int32[N], int32[B]) ->
  # (float32[B, S, S, 3], float32[B, K]), with N = B * images_per_example.
  apply: Callable[..., tuple[jax.Array, jax.Array]]
  # Raw images that one output consumes: 2 with MixUp or CutMix, else 1.
  images_per_example: int


def normalize(
  images: jax.Array,
  mean: Sequence[float],
  std: Sequence[float],
  dtype: DTypeLike = jnp.float32,
) -> jax.Array:
  """Shifts and scales each channel to the statistics the network expects.

  Args:
    images: uint8 or float32[..., 3], levels from 0 to 255.
    mean: of each channel, as a share of 255.
    std: standard deviation of each channel, as a share of 255.
    dtype: of the result; the arithmetic is in float32.

  Returns:
    dtype[..., 3], `(images / 255 - mean) / std`.
  """
  shape = (1,) * (images.ndim - 1) + (-1,)
  shift = np.reshape(255 * np.asarray(mean), shape).astype(np.float32)
  scale = np.reshape(1 / (255 * np.asarray(std)), shape).astype(np.float32)
  return ((images.astype(jnp.float32) - shift) * scale).astype(dtype)


def make_preprocess(
  *,
  num_classes: int,
  mean: Sequence[float],
  std: Sequence[float],
  flip: bool,
  randaugment: tuple[int, float] | None = None,
  mixup_alpha: float | None = None,
  cutmix_alpha: float | None = None,
  augment_before_mix: bool = False,
  reference_quirks: bool = False,
) -> Preprocess:
  """Makes the training preprocessing of one recipe.

  In order: flip each image, mix the pair, RandAugment the result, normalise.

  Args:
    num_classes: K, the length of a soft label.
    mean: of each channel, as a share of 255.
    std: standard deviation of each channel, as a share of 255.
    flip: mirror each image left to right with probability 1/2.
    randaugment: number of operations and their magnitude; None: off.
    mixup_alpha: of the Beta distribution, > 0 (published 0.2); None: off.
    cutmix_alpha: of the Beta distribution, > 0 (published 1); None: off. If
      both are on, even places of the batch get MixUp and odd ones CutMix.
    augment_before_mix: RandAugment each image before it is mixed.
    reference_quirks: RandAugment as in the published code (see `ops`).

  Returns:
    The preprocessing. Its `apply(key, images, labels, index)` takes the
    step's key, uint8[N, S, S, 3], int32[N] and int32[B], the places of the B
    outputs in the whole batch; output i is made of images 2 i and 2 i + 1 if
    it mixes, else of image i.

  Raises:
    ValueError: if an alpha is not above 0.

  References:
    Brock et al., High-Performance Large-Scale Image Recognition Without
    Normalization, arXiv:2102.06171, appendix A.
  """
  for alpha in (mixup_alpha, cutmix_alpha):
    if alpha is not None and alpha <= 0:
      raise ValueError(f'alpha is {alpha!r}: it must be above 0, or None')
  mixes = mixup_alpha is not None or cutmix_alpha is not None
  images_per_example = 2 if mixes else 1
  augment = _make_augment(randaugment, reference_quirks)
  mix = _make_mix(mixup_alpha, cutmix_alpha)

  def one_example(
    key: jax.Array, index: jax.Array, images: jax.Array, labels: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    key = jax.random.fold_in(key, index)
    flip_key, mix_key, augment_key = jax.random.split(key, 3)
    if flip:
      images = _flip(flip_key, images)
    if augment_before_mix:
      images = augment(augment_key, images)
    image, label = mix(
      mix_key, index, images, jax.nn.one_hot(labels, num_classes)
    )
    if not augment_before_mix:
      image = augment(augment_key, image[None])[0]
    return normalize(image, mean, std), label

  def apply(
    key: jax.Array, images: jax.Array, labels: jax.Array, index: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    if images.shape[0] != images_per_example * index.shape[0]:
      raise ValueError(
        f'{index.shape[0]} examples of {images_per_example} images each, '
        f'but {images.shape[0]} images'
      )
    grouped = index.shape + (images_per_example,)
    return jax.vmap(functools.partial(one_example, key))(
      index,
      images.reshape(grouped + images.shape[1:]),
      labels.reshape(grouped),
    )

  return Preprocess(apply, images_per_example)


def _flip(key: jax.Array, images: jax.Array) -> jax.Array:
  """Mirrors each image left to right, or not, by a coin of its own."""
  mirrored = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
  return jnp.where(mirrored, images[:, :, ::-1], images)


def _make_augment(
  randaugment: tuple[int, float] | None, reference_quirks: bool
) -> Augment:
  if randaugment is None:
    return lambda key, images: images
  layers, magnitude = randaugment

  def augment(key: jax.Array, images: jax.Array) -> jax.Array:
    return jax.vmap(
      functools.partial(
        randaugment_lib.randaugment,
        layers=layers,
        magnitude=magnitude,
        reference_quirks=reference_quirks,
      )
    )(
      jax.random.split(key, images.shape[0]),
      jnp.clip(images, 0, 255).astype(jnp.uint8),
    )

  return augment


def _make_mix(mixup_alpha: float | None, cutmix_alpha: float | None) -> Mix:
  """Even places of the batch get MixUp, odd ones CutMix, if both are on."""
  mixes: list[Callable[..., tuple[jax.Array, jax.Array]]] = []
  if mixup_alpha is not None:
    mixes.append(functools.partial(mixing.mixup, alpha=mixup_alpha))
  if cutmix_alpha is not None:
    mixes.append(functools.partial(mixing.cutmix, alpha=cutmix_alpha))

  def mix(
    key: jax.Array, index: jax.Array, images: jax.Array, labels: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    if not mixes:
      return images[0], labels[0]
    return jax.lax.switch(index % len(mixes), mixes, key, images, labels)

  return mix
