"""MixUp and CutMix: two images and their labels -> one image, one soft label.

Both compute `weights * first + (1 - weights) * second`. In MixUp all pixels
have the same weight; in CutMix the weight is 1 inside a box and 0 outside. The
soft label weighs the two labels by the mean of the weights.
"""

import jax
import jax.numpy as jnp


def mixup(
  key: jax.Array, images: jax.Array, labels: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Blends two images, `lam * first + (1 - lam) * second`.

  The weight lam is drawn from Beta(alpha, alpha).

  Args:
    key: PRNG key for this pair.
    images: uint8 or float32[2, H, W, C], the pair.
    labels: float32[2, K], their (one-hot) labels.
    alpha: both parameters of the Beta distribution, > 0; published 0.2.

  Returns:
    float32[H, W, C], the blended image, and float32[K], its soft label.

  References:
    Zhang et al, `mixup: Beyond Empirical Risk Minimization
    <https://arxiv.org/abs/1710.09412>`_, 2018, section 2.
  """
  lam = _beta(key, alpha)
  return _mix(lam, images.astype(jnp.float32)), _mix(lam, labels)


def cutmix(
  key: jax.Array, images: jax.Array, labels: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Pastes a box of the first image into the second.

  With lam drawn from Beta(alpha, alpha), the sides of the box are
  sqrt(1 - lam) times those of the image. The center of the box is uniform over
  the pixels, and the box is clipped at the edges of the image. The label uses
  the area of the clipped box. The first image is the paper's x_B.

  Args:
    key: PRNG key for this pair.
    images: uint8 or float32[2, H, W, C], the pair.
    labels: float32[2, K], their (one-hot) labels.
    alpha: both parameters of the Beta distribution, > 0; published 1, for
      which lam is uniform.

  Returns:
    float32[H, W, C], the composed image, and float32[K], its soft label.

  References:
    Yun et al, `CutMix: Regularization Strategy to Train Strong Classifiers with
    Localizable Features <https://arxiv.org/abs/1905.04899>`_, 2019,
    section 3.1.
  """
  _, height, width, _ = images.shape
  lam_key, row_key, column_key = jax.random.split(key, 3)
  cut_ratio = jnp.sqrt(1 - _beta(lam_key, alpha))
  rows = _covered(row_key, cut_ratio, height)
  columns = _covered(column_key, cut_ratio, width)
  box = rows[:, None, None] & columns[None, :, None]
  box_area = rows.sum() * columns.sum() / (height * width)
  image = jnp.where(box, images[0], images[1]).astype(jnp.float32)
  return image, _mix(box_area, labels)


def _beta(key: jax.Array, alpha: float) -> jax.Array:
  """Draws float32[] from Beta(alpha, alpha), by a polar method.

  The polar method draws from Student's t distribution, of which the symmetric
  Beta distribution is a transformation. `jax.random.beta` also allows unequal
  parameters, but its rejection loop takes seconds to compile.

  References:
    Devroye, `Random variate generation in one line of code`, 1996.
  """
  radius_key, angle_key = jax.random.split(key)
  u = 1 - jax.random.uniform(radius_key)  # above 0
  cosine = jnp.cos(2 * jnp.pi * jax.random.uniform(angle_key))
  radius = jnp.expm1(-jnp.log(u) / alpha)
  lam = 0.5 + 0.5 * cosine / jnp.sqrt(1 / radius + cosine**2)
  return jnp.clip(lam, 0, 1)  # rounding may exceed the interval


def _mix(lam: jax.Array, pair: jax.Array) -> jax.Array:
  """Returns `lam * pair[0] + (1 - lam) * pair[1]`."""
  # This form rounds once less than the one above.
  return pair[1] + lam * (pair[0] - pair[1])


def _covered(key: jax.Array, cut_ratio: jax.Array, length: int) -> jax.Array:
  """Returns bool[length], the rows (or columns) that the box covers."""
  center = jax.random.randint(key, (), 0, length)
  extent = (cut_ratio * length).astype(jnp.int32)
  first = center - extent // 2
  pixel = jnp.arange(length)
  return (pixel >= first) & (pixel < first + extent)
