"""The static description of a convolution, shared by all its lowerings."""

from typing import NamedTuple

import jax
from jax import lax

Pads = tuple[tuple[int, int], ...]
Padding = str | tuple[tuple[int, int], tuple[int, int]]


class Geometry(NamedTuple):
  """The properties of a convolution that its operands' shapes do not show.

  Attributes:
    stride: step in pixels along both axes.
    pads: ((top, bottom), (left, right)) in pixels.
    groups: number of groups that channels are split into.
  """

  stride: int
  pads: Pads
  groups: int

  @classmethod
  def of(
    cls,
    inputs: jax.Array,
    kernel: jax.Array,
    *,
    stride: int,
    padding: Padding,
    groups: int,
  ) -> 'Geometry':
    """Returns the geometry of a convolution, with its padding in pixels.

    Args:
      inputs: float[B, H, W, C].
      kernel: float[kh, kw, C // groups, O].
      stride: step in pixels along both axes.
      padding: 'SAME' (as in TensorFlow, with the odd pixel at the end), 'VALID'
        or explicit ((top, bottom), (left, right)) in pixels.
      groups: number of groups that channels are split into.
    """
    if not isinstance(padding, str):
      return cls(stride, padding, groups)
    pads = lax.padtype_to_pads(
      inputs.shape[1:3], kernel.shape[:2], (stride, stride), padding
    )
    whole = tuple((int(low), int(high)) for low, high in pads)
    return cls(stride, whole, groups)
