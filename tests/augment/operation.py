"""Applies one RandAugment operation to one image."""

import functools

import jax

from nfnets.augment import edits, ops


@functools.cache
def jitted(name, **options):
  """Returns (key, uint8[H, W, 3], magnitude) -> uint8[H, W, 3], jitted."""
  operation = ops.operations(**{'reference_quirks': False, **options})[name]

  def apply(key, image, magnitude):
    edit = operation(key, edits.image_stats(image), magnitude)
    return edits.apply(image, edit)

  return jax.jit(apply)
