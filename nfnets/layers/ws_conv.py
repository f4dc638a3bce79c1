"""Convolution with scaled weight standardization.

References:
  Brock et al, `Characterizing signal propagation to close the performance gap
  in unnormalized ResNets <https://arxiv.org/abs/2101.08692>`_, 2021, section 4,
  equation 2.
"""

import functools
import math
from typing import Literal, get_args

import haiku as hk
import jax
from jax import lax
from jax import numpy as jnp

from nfnets.layers import convolution

Epsilon = Literal['floor', 'additive']
PaddingRule = Literal['same', 'symmetric']

_VARIANCE_FLOOR = 1e-4
_VARIANCE_OFFSET = 1e-5


def standardize_weight(
  weight: jax.Array, gain: jax.Array, *, epsilon: Epsilon = 'floor'
) -> jax.Array:
  """Returns gain * (weight - mean) / sqrt(variance * fan_in) per filter.

  Mean and (population) variance are over height, width and input channels, so
  that each filter has zero sum and, with gain 1, unit squared norm.

  Args:
    weight: float[kh, kw, I, O] with I the input channels of one group.
    gain: float[O].
    epsilon: what keeps the root away from zero: 'floor' takes
      max(variance * fan_in, 1e-4), as the published networks do; 'additive'
      takes (variance + 1e-5) * fan_in, as timm does.

  Returns:
    float[kh, kw, I, O], dtype of the weight.

  Raises:
    ValueError: if epsilon is neither.
  """
  if epsilon not in get_args(Epsilon):
    raise ValueError(f"epsilon is {epsilon!r}, expected 'floor' or 'additive'")
  with jax.named_scope('standardize'):
    return _standardize_once(epsilon, weight, gain)


# XLA's derivative of mean and variance walks the columns of a large kernel
# several times on CPUs, at a sixth of the speed of the formula written out.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _standardize(
  epsilon: Epsilon, weight: jax.Array, gain: jax.Array
) -> jax.Array:
  return _standardize_forward(epsilon, weight, gain)[0]


def _standardize_forward(
  epsilon: Epsilon, weight: jax.Array, gain: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  statistics = _statistics(epsilon, weight)
  mean, root, _ = statistics
  scale = root * gain.reshape(1, 1, 1, -1)
  standardized = (weight.astype(jnp.float32) - mean) * scale
  return standardized.astype(weight.dtype), (weight, gain, statistics)


def _standardize_backward(
  epsilon: Epsilon,
  residuals: tuple[jax.Array, ...],
  cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Derivatives with respect to weight w and gain g, per filter.

  With r = 1 / sqrt(square), c = w - mean(w) and cotangent d: dg = r sum(d c)
  and dw = g r (d - mean(d) - r^2 c sum(d c)), the last term only where the
  variance is what square depends on.
  """
  del epsilon
  weight, gain, (mean, root, moves) = residuals
  wide, d = weight.astype(jnp.float32), cotangent.astype(jnp.float32)
  axes, fan_in = (0, 1, 2), math.prod(weight.shape[:-1])
  total = jnp.sum(d, axes, keepdims=True)
  # Not of w - mean: XLA would write that array out for the sum to read.
  product = jnp.sum(d * wide, axes, keepdims=True) - mean * total
  slope = moves * root**2 * product
  slope, offset, d_gain = _together(
    slope, mean * slope - total / fan_in, root * product
  )
  scale = root * gain.reshape(1, 1, 1, -1)
  d_weight = scale * (d - wide * slope + offset)
  d_gain = d_gain.reshape(gain.shape)
  return d_weight.astype(weight.dtype), d_gain.astype(gain.dtype)


_standardize.defvjp(_standardize_forward, _standardize_backward)
# Filters of one shape are traced once: a deep network has hundreds of them.
_standardize_once = jax.jit(_standardize, static_argnums=0)


def _statistics(epsilon: Epsilon, weight: jax.Array) -> jax.Array:
  """Mean, 1 / root of the square, 1 where the square follows the variance.

  float32[3, 1, 1, 1, O]: sums of thousands of bfloat16 squares would lose two
  digits.
  """
  weight = weight.astype(jnp.float32)
  axes, fan_in = (0, 1, 2), math.prod(weight.shape[:-1])
  mean = jnp.sum(weight, axes, keepdims=True) / fan_in
  square = jnp.sum(jnp.square(weight - mean), axes, keepdims=True)
  if epsilon == 'additive':
    square += _VARIANCE_OFFSET * fan_in
    moves = jnp.ones_like(square)
  else:
    moves = (square > _VARIANCE_FLOOR).astype(jnp.float32)
    square = jnp.maximum(square, _VARIANCE_FLOOR)
  return _together(mean, lax.rsqrt(square), moves)


def _together(*rows: jax.Array) -> jax.Array:
  """Small vectors as rows of one array, which is computed once.

  XLA would compile (and run) an operation for each, or compute them again for
  every number that they are used for.
  """
  return lax.optimization_barrier(jnp.stack(rows))


def explicit_padding(
  rule: PaddingRule, kernel_size: int
) -> convolution.Padding:
  """The padding argument of `convolution.conv2d` for a rule.

  Args:
    rule: 'same' puts the odd pixel of an even size at the end (TensorFlow,
      the published networks); 'symmetric' pads (kernel_size - 1) // 2 on every
      side (PyTorch, timm).
    kernel_size: in pixels.

  Returns:
    'SAME' or ((top, bottom), (left, right)) in pixels.

  Raises:
    ValueError: if the rule is neither.
  """
  if rule == 'same':
    return 'SAME'
  if rule == 'symmetric':
    side = (kernel_size - 1) // 2
    return ((side, side), (side, side))
  raise ValueError(f"padding is {rule!r}, expected 'same' or 'symmetric'")


class WSConv2D(hk.Module):
  """A convolution whose filters are standardized, with gain and bias.

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
    """Makes the layer.

    Args:
      output_channels: number of filters.
      kernel_size: height and width of the filters in pixels.
      stride: step in pixels along both axes.
      groups: number of groups that channels are split into.
      padding: see `explicit_padding`.
      epsilon: see `standardize_weight`.
      gain_init: initial value of the gains.
      scale: constant that multiplies the standardized filters.
      name: of the Haiku module.
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

  def __call__(self, inputs: jax.Array) -> jax.Array:
    """float[B, H, W, C] to float[B, H', W', output_channels]."""
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
    outputs = convolution.conv2d(
      inputs,
      standardize_weight(weight, gain * self.scale, epsilon=self.epsilon),
      stride=self.stride,
      padding=self.padding,
      groups=self.groups,
    )
    return outputs + bias.reshape(1, 1, 1, -1)
