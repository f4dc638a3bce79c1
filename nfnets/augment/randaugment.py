"""RandAugment: a few random operations on each image, all of one strength."""

import functools

import jax
import jax.numpy as jnp

from nfnets.augment import edits, ops

# The operations whose edit depends on the image's histogram.
_USE_HISTOGRAM = ('autocontrast', 'equalize')


def randaugment(
  key: jax.Array,
  image: jax.Array,
  *,
  layers: int,
  magnitude: float,
  reference_quirks: bool = False,
) -> jax.Array:
  """Applies `layers` operations in turn, each drawn from all sixteen.

  Written for one image and meant to be mapped over a batch by `jax.vmap`:
  each image then has operations of its own, at the cost of one warp, one
  table, two blends and one box for each layer.

  Args:
    key: PRNG key of this image.
    image: uint8[H, W, 3].
    layers: number of operations, at least 1.
    magnitude: level of each operation, 0 or above; 10 is the top of the
      published scale.
    reference_quirks: reproduce the published code where it departs from an
      operation's definition (see `ops`).

  Returns:
    uint8[H, W, 3].

  Raises:
    ValueError: if `layers` or `magnitude` is out of its range.

  References:
    Cubuk et al., RandAugment, arXiv:1909.13719, section 3.
  """
  if layers < 1:
    raise ValueError(f'layers is {layers!r}: it must be at least 1')
  if magnitude < 0:
    raise ValueError(f'magnitude is {magnitude!r}: it must be 0 or above')
  edit_fns = ops.edit_fns(reference_quirks=reference_quirks)
  uses_histogram = jnp.array([name in _USE_HISTOGRAM for name in edit_fns])

  def layer(number: int, image: jax.Array) -> jax.Array:
    choice_key, key_of_op = jax.random.split(jax.random.fold_in(key, number))
    choice = jax.random.randint(choice_key, (), 0, len(edit_fns))
    measured = edits.measure(image, uses_histogram[choice])
    # All sixteen edits are made under vmap, but they are small; the image is
    # edited once.
    edit = jax.lax.switch(
      choice,
      [
        functools.partial(edit_fn, key_of_op, measured, magnitude)
        for edit_fn in edit_fns.values()
      ],
    )
    return edits.apply(image, edit)

  return jax.lax.fori_loop(0, layers, layer, image)
