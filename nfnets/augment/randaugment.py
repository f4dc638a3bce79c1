"""RandAugment: a few random operations per image, all of one magnitude."""

import functools

import jax
import jax.numpy as jnp

from nfnets.augment import edits, ops, tpu

# Operations that depend on the image's histogram.
_USE_HISTOGRAM = ('autocontrast', 'equalize')


def randaugment(
  key: jax.Array,
  image: jax.Array,
  *,
  layers: int,
  magnitude: float,
  relative: bool = False,
  reference_quirks: bool = False,
  for_tpu: bool = False,
) -> jax.Array:
  """Applies `layers` operations, each drawn uniformly from all sixteen.

  It takes one image; map it over a batch with `jax.vmap` and a key per image.
  Each layer costs one warp, one table, one box and two blends per image,
  whichever operations are drawn. With `for_tpu`, the images take turns, and
  each costs what its operations cost (see `tpu`).

  Args:
    key: PRNG key for this image.
    image: uint8[H, W, 3].
    layers: number of operations (the paper's N), at least 1.
    magnitude: magnitude of every operation (the paper's M), 0 or above; 10 is
      the top of the published scale.
    relative: scale the distances of translations and of the cutout with the
      image instead of the published pixels (see `ops`).
    reference_quirks: reproduce the published code where it deviates from an
      operation's definition (see `ops`).
    for_tpu: compute it as suits a TPU; the result is the same.

  Returns:
    uint8[H, W, 3].

  Raises:
    ValueError: `layers` or `magnitude` is out of range.

  References:
    Cubuk et al, `RandAugment: Practical automated data augmentation with a
    reduced search space <https://arxiv.org/abs/1909.13719>`_, 2020, section 3.
  """
  if layers < 1:
    raise ValueError(f'layers is {layers!r}: it must be at least 1')
  if magnitude < 0:
    raise ValueError(f'magnitude is {magnitude!r}: it must be 0 or above')
  operations = ops.operations(
    reference_quirks=reference_quirks, relative=relative
  )
  apply = _apply_branches if for_tpu else _apply_edits
  return apply(key, image, operations, layers, magnitude)


def _draw(
  key: jax.Array, layer: jax.Array | int, count: int
) -> tuple[jax.Array, jax.Array]:
  """Returns int32[], which operation a layer applies, and the key for it."""
  choice_key, op_key = jax.random.split(jax.random.fold_in(key, layer))
  return jax.random.randint(choice_key, (), 0, count), op_key


def _apply_edits(
  key: jax.Array,
  image: jax.Array,
  operations: dict[str, ops.Operation],
  layers: int,
  magnitude: float,
) -> jax.Array:
  """Applies the layers by `edits.apply`, for all images of a batch together."""
  uses_histogram = jnp.array([name in _USE_HISTOGRAM for name in operations])

  def layer(number: int, image: jax.Array) -> jax.Array:
    choice, op_key = _draw(key, number, len(operations))
    stats = edits.image_stats(image, uses_histogram[choice])
    edit = _choose(choice, op_key, stats, operations, magnitude)
    return edits.apply(image, edit)

  return jax.lax.fori_loop(0, layers, layer, image)


def _apply_branches(
  key: jax.Array,
  image: jax.Array,
  operations: dict[str, ops.Operation],
  layers: int,
  magnitude: float,
) -> jax.Array:
  """Applies the layers by `tpu.apply`, to one image after another.

  All numbers are drawn before, for the whole batch: small operations within the
  loop would cost as much as those on images.
  """
  stats = edits.empty_stats(image)

  def draw(layer: jax.Array) -> tpu.Draw:
    choice, op_key = _draw(key, layer, len(operations))
    edit = _choose(choice, op_key, stats, operations, magnitude)
    return tpu.Draw(choice, edit.matrix, edit.box)

  draws = jax.vmap(draw)(jnp.arange(layers))
  return tpu.apply(image, draws, operations, magnitude)


def _choose(
  choice: jax.Array,
  op_key: jax.Array,
  stats: edits.ImageStats,
  operations: dict[str, ops.Operation],
  magnitude: float,
) -> edits.Edit:
  """Returns the edit of the chosen operation.

  Under vmap this computes all sixteen edits, which are small.
  """
  return jax.lax.switch(
    choice,
    [
      functools.partial(operation, op_key, stats, magnitude)
      for operation in operations.values()
    ],
  )
