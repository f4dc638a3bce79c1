"""Convolution with scaled weight standardization.

References:
  Brock et al, `Characterizing signal propagation to close the performance gap
  in unnormalized ResNets <https://arxiv.org/abs/2101.08692>`_, 2021, section 4,
  equation 2.
"""

from typing import Literal

import haiku as hk
import jax
from jax import numpy as jnp

from nfnets.layers import broadcast, convolution
from nfnets.layers.convolution import standardization

Epsilon = Literal['floor', 'additive']
PaddingRule = Literal['same', 'symmetric']

VARIANCE_FLOOR = 1e-4
"""Minimum of variance * fan_in in the published networks, epsilon 'floor'."""
VARIANCE_OFFSET = 1e-5
"""Number added to the variance in timm's networks, epsilon 'additive'."""

_EPSILONS: dict[Epsilon, tuple[float, float]] = {
  'floor': (VARIANCE_FLOOR, 0.0),
  'additive': (0.0, VARIANCE_OFFSET),
}


def standardize_weight(
  weight: jax.Array, gain: jax.Array, *, epsilon: Epsilon = 'floor'
) -> jax.Array:
  """Computes gain * (weight - mean) / sqrt(variance * fan_in) per filter.

  Mean and (population) variance are taken over height, width and input
  channels, so that each filter has zero sum and, with gain 1, unit squared
  norm.

  Args:
    weight: float[kh, kw, I, O] with I the input channels of one group.
    gain: float[O].
    epsilon: what keeps the root above zero: 'floor' uses
      max(variance * fan_in, 1e-4), as in the published networks; 'additive'
      uses (variance + 1e-5) * fan_in, as in timm.

  Returns:
    float[kh, kw, I, O], dtype of the weight.

  Raises:
    ValueError: if `epsilon` is neither.
  """
  if epsilon not in _EPSILONS:
    raise ValueError(f"epsilon is {epsilon!r}, expected 'floor' or 'additive'")
  floor, offset = _EPSILONS[epsilon]
  with jax.named_scope('standardize'):
    return standardization.standardize(weight, gain, floor=floor, offset=offset)


def explicit_padding(
  rule: PaddingRule, kernel_size: int
) -> convolution.Padding:
  """Returns the `padding` of `convolution.conv2d` for a rule.

  Args:
    rule: 'same' pads an odd number of pixels with the extra one at the end
      (TensorFlow, the published networks); 'symmetric' pads
      (kernel_size - 1) // 2 pixels on every side (PyTorch, timm).
    kernel_size: height and width of the filters in pixels.

  Returns:
    'SAME' or ((top, bottom), (left, right)) in pixels.

  Raises:
    ValueError: if `rule` is neither.
  """
  if rule == 'same':
    return 'SAME'
  if rule == 'symmetric':
    side = (kernel_size - 1) // 2
    return ((side, side), (side, side))
  raise ValueError(f"padding is {rule!r}, expected 'same' or 'symmetric'")


class WSConv2D(hk.Module):
  """A convolution with standardized filters, gain and bias.

  Parameters: `w` float[k, k, C // groups, O] ~ N(0, 1 / fan_in), `gain`
  float[O], `bias` float[O] = 0.
  """

  def __init__(
    self,
    output_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    padding: PaddingRule = 'same',
    epsilon: Epsilon = 'floor',
    gain_init: float = 1.0,
    scale: float = 1.0,
    name: str | None = None,
  ):
    """Creates the layer.

    Args:
      output_channels: number of filters.
      kernel_size: height and width of the filters in pixels.
      stride: step in pixels along both axes.
      groups: number of groups that channels are split into.
      padding: see `explicit_padding`.
      epsilon: see `standardize_weight`.
      gain_init: initial value of the gains.
      scale: constant that multiplies the standardized filters.
      name: the Haiku module's name.
    """
    super().__init__(name=name)
    self.output_channels = output_channels
    self.kernel_size = kernel_size
    self.stride = stride
    self.groups = groups
    self.padding = explicit_padding(padding, kernel_size)
    self.epsilon: Epsilon = epsilon
    self.gain_init = gain_init
    self.scale = scale

  def __call__(
    self,
    inputs: jax.Array,
    factor: jax.Array | None = None,
    kept: jax.typing.ArrayLike = 1.0,
  ) -> jax.Array:
    """Applies the convolution, or factor * kept * convolution.

    Args:
      inputs: float[B, H, W, C], already multiplied by `kept`.
      factor: float[] that multiplies filters and bias; None for 1.
      kept: float[B, 1, 1, 1] of zeros and ones.

    Returns:
      float[B, H', W', output_channels].
    """
    size, channels = self.kernel_size, inputs.shape[-1] // self.groups
    weight = hk.get_parameter(
      'w',
      (size, size, channels, self.output_channels),
      init=hk.initializers.VarianceScaling(1.0, 'fan_in', 'normal'),
    )
    gain = hk.get_parameter(
      'gain',
      (self.output_channels,),
      init=hk.initializers.Constant(self.gain_init),
    )
    bias = hk.get_parameter('bias', (self.output_channels,), init=jnp.zeros)
    if factor is not None:
      factor = broadcast.broadcast_to(factor, gain.shape)
      gain, bias = gain * factor, bias * factor
    outputs = convolution.conv2d(
      inputs,
      standardize_weight(weight, gain * self.scale, epsilon=self.epsilon),
      stride=self.stride,
      padding=self.padding,
      groups=self.groups,
    )
    return broadcast.add_bias(outputs, bias, kept)
