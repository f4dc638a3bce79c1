"""MixUp and CutMix: two images and their labels -> one image, one soft label.

Both are a weighted mean of the two images, `weights * first + (1 - weights) *
second`: MixUp weighs every pixel alike, CutMix takes a box of the first. The
soft label is the share of the pixels that each image has in the result.
"""

import jax
import jax.numpy as jnp


def mixup(
  key: jax.Array, images: jax.Array, labels: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Blends a pair of images, `share ~ Beta(alpha, alpha)` of the first.

  Args:
    key: PRNG key of this pair.
    images: uint8 or float32[2, H, W, C], the pair.
    labels: float32[2, K], their (one-hot) labels.
    alpha: both parameters of the Beta distribution, > 0; published 0.2.

  Returns:
    float32[H, W, C], the blended image, and float32[K], its soft label.

  References:
    Zhang et al., mixup: Beyond Empirical Risk Minimization,
    arXiv:1710.09412, section 2.
  """
  share = _beta(key, alpha)
  return _mix(share, images.astype(jnp.float32)), _mix(share, labels)


def cutmix(
  key: jax.Array, images: jax.Array, labels: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Pastes a box of the first image into the second.

  The box's sides are sqrt(1 - p) of the image's, p ~ Beta(alpha, alpha); its
  center is uniform over the pixels, and the image's edges clip it. The label
  follows the box that is left.

  Args:
    key: PRNG key of this pair.
    images: uint8 or float32[2, H, W, C], the pair.
    labels: float32[2, K], their (one-hot) labels.
    alpha: both parameters of the Beta distribution, > 0; published 1, where
      p is uniform.

  Returns:
    float32[H, W, C], the composed image, and float32[K], its soft label.

  References:
    Yun et al., CutMix, arXiv:1905.04899, section 3.1.
  """
  _, height, width, _ = images.shape
  p_key, row_key, column_key = jax.random.split(key, 3)
  side = jnp.sqrt(1 - _beta(p_key, alpha))
  rows = _inside(row_key, side, height)
  columns = _inside(column_key, side, width)
  box = rows[:, None, None] & columns[None, :, None]
  share = rows.sum() * columns.sum() / (height * width)
  image = jnp.where(box, images[0], images[1]).astype(jnp.float32)
  return image, _mix(share, labels)


def _beta(key: jax.Array, alpha: float) -> jax.Array:
  """float32[] ~ Beta(alpha, alpha), by the polar method for Student's t.

  `jax.random.beta` serves unequal parameters too, by a loop of rejections that
  takes seconds to compile.

  References:
    Devroye, Random variate generation in one line of code, 1996.
  """
  radius_key, angle_key = jax.random.split(key)
  u = 1 - jax.random.uniform(radius_key)  # above 0
  cosine = jnp.cos(2 * jnp.pi * jax.random.uniform(angle_key))
  radius = jnp.expm1(-jnp.log(u) / alpha)
  share = 0.5 + 0.5 * cosine / jnp.sqrt(1 / radius + cosine**2)
  return jnp.clip(share, 0, 1)  # which rounding may leave


def _mix(share: jax.Array, pair: jax.Array) -> jax.Array:
  # One rounding less than share * a + (1 - share) * b has.
  return pair[1] + share * (pair[0] - pair[1])


def _inside(key: jax.Array, side: jax.Array, length: int) -> jax.Array:
  """bool[length]: the pixels of one axis that the box covers."""
  center = jax.random.randint(key, (), 0, length)
  extent = (side * length).astype(jnp.int32)
  first = center - extent // 2
  pixel = jnp.arange(length)
  return (pixel >= first) & (pixel < first + extent)
