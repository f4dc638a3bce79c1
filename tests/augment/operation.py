"""Applies one RandAugment operation to one image."""

import functools

import jax

from nfnets.augment import edits, ops, tpu


@functools.cache
def jitted(name, *, for_tpu=False, **options):
  """Returns (key, uint8[H, W, 3], magnitude) -> uint8[H, W, 3], jitted."""
  operation = ops.operations(**{'reference_quirks': False, **options})[name]

  def apply(key, image, magnitude):
    edit = operation(key, edits.image_stats(image), magnitude)
    return edits.apply(image, edit)

  def apply_for_tpu(key, image, magnitude):
    edit = operation(key, edits.empty_stats(image), magnitude)
    draw = tpu.Draw(jax.numpy.int32(0), edit.matrix, edit.box)
    change = tpu.change(name, operation, magnitude)
    return tpu.to_image(change(tpu.to_planes(image), draw))

  if name == 'rotate' and for_tpu:
    return jax.jit(apply_for_tpu, static_argnums=2)
  return jax.jit(apply_for_tpu if for_tpu else apply)
