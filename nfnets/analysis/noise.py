"""Analytic signal propagation of normalizer-free networks on Gaussian noise.

The recursion takes every convolution as a sum over many independent filters. It
holds on average over the initial weights, and the better the wider the network.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from nfnets.layers import activations, ws_conv
from nfnets.models import config as model_config
from nfnets.models import scaling

_POOL_WINDOW = 9  # pixels of the stem's max pooling


class Variances(NamedTuple):
  """The analytic variances of one block.

  Attributes:
    variance: variance of the block's output over images and pixels, averaged
      over the channels.
    residual_variance: variance of the residual branch's output, before
      stochastic depth, skip gain and alpha.
  """

  variance: float
  residual_variance: float


class _Signal(NamedTuple):
  """Mean and variance of a feature map, and its side in pixels."""

  mean: float
  variance: float
  size: int


def variances(config: model_config.ModelConfig, size: int) -> list[Variances]:
  """Computes the variance after each block at initialization.

  The images are independent standard normal numbers, and skip gains are 1.
  `signal_propagation.expected_variances` assumes that every transition resets
  the variance to 1. This function also accounts for what pixels of noise are
  sensitive to:
    - A shortcut that averages 2x2 independent pixels divides their variance by
      4. So the variance of NFNets shrinks at each transition. Pixels of
      photographs are similar to their neighbors, and shrink less.
    - An activation keeps a variance of 1, but other variances only if it is
      homogeneous, such as ReLU.
    - Zero padding lowers the variance of 3x3 convolutions at the border, which
      is most of a feature map of 7x7 pixels.

  Neighboring pixels stay uncorrelated, averaged over filters. Squeeze-excite
  has no effect at initialization: its gates are close to 1. The window of the
  stem's max pooling counts as independent numbers.

  Args:
    config: the configuration of a model with standardized convolutions.
    size: height and width of the images in pixels.

  Returns:
    The variances of each block, in order.

  Raises:
    ValueError: the model has no standardized convolutions.

  References:
    Brock et al, `Characterizing signal propagation to close the performance gap
    in unnormalized ResNets <https://arxiv.org/abs/2101.08692>`_, 2021, section
    3 and 4.
  """
  if not config.standardize:
    raise ValueError(f'{config.name} has no standardized convolutions')
  signal, window = _stem(config, size)
  found: list[Variances] = []
  for plan in (plan for stage in scaling.plan_blocks(config) for plan in stage):
    activated = _activate(config, signal, plan.beta, window)
    window = 1
    branch = _convolve(config, _activate(config, activated), 3, plan.stride)
    if config.extra_conv:
      branch = _convolve(config, _activate(config, branch), 3, 1)
    residual = _activate(config, branch).variance
    shortcut = signal.variance
    if plan.stride > 1 or plan.in_channels != plan.out_channels:
      pools = config.pool_shortcut and plan.stride > 1
      shortcut = activated.variance / (4 if pools else 1)
    signal = _Signal(0.0, shortcut + config.alpha**2 * residual, branch.size)
    found.append(Variances(signal.variance, residual))
  return found


def _stem(config: model_config.ModelConfig, size: int) -> tuple[_Signal, int]:
  """Returns the first block's input, and how many pixels it is the maximum of.

  Max pooling is applied together with the next activation.
  """
  gamma = activations.get(config.activation).gamma
  # With gamma in the weights, the first convolution has it too.
  first = gamma**2 if config.gamma_in_weights else 1.0
  signal = _Signal(0.0, first, size)
  if config.stem == 'deep':
    signal = _convolve(config, signal, 3, 2)
    for stride in (1, 1, 2):
      signal = _convolve(config, _activate(config, signal), 3, stride)
    return signal, 1
  signal = _convolve(config, signal, *scaling.stem_filters(config))
  if config.stem != '7x7_pool':
    return signal, 1
  return signal._replace(size=-(-signal.size // 2)), _POOL_WINDOW


def _activate(
  config: model_config.ModelConfig,
  signal: _Signal,
  beta: float = 1.0,
  window: int = 1,
) -> _Signal:
  """Applies gamma * activation * beta to the maximum of `window` normals."""
  activation = activations.get(config.activation)
  mean, variance = moments(activation.function, signal.variance, window)
  factor = activation.gamma * beta
  return signal._replace(mean=factor * mean, variance=factor**2 * variance)


def _convolve(
  config: model_config.ModelConfig, signal: _Signal, kernel: int, stride: int
) -> _Signal:
  """Applies standardized filters: zero sum, unit norm.

  Where a fraction f of the window is inside the image, the filters' other
  weights are lost: the variance becomes f times as large. The weights left no
  longer have zero sum but, on average over the filters, a squared sum of
  f (1 - f), so the mean of the inputs contributes too.
  """
  inside = taps_inside(config.padding, signal.size, kernel, stride)
  # Means over the positions of f and f^2, products of both axes.
  fraction, square = np.mean(inside) ** 2, np.mean(inside**2) ** 2
  variance = signal.variance * fraction
  variance += signal.mean**2 * (fraction - square)
  return _Signal(0.0, float(variance), len(inside))


def moments(
  function: Callable[[jax.Array], jax.Array], variance: float, window: int = 1
) -> tuple[float, float]:
  """Computes mean and variance of function(max(x_1, ..., x_window)).

  Args:
    function: elementwise.
    variance: variance of the independent x_i ~ N(0, variance).
    window: their number.

  Returns:
    Mean and variance, by numerical integration.
  """
  z = np.linspace(-10.0, 10.0, 20_001)
  below = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z])
  weights = np.exp(-(z**2) / 2) * below ** (window - 1)
  weights /= weights.sum()
  x = jnp.asarray(math.sqrt(variance) * z, jnp.float32)
  y = np.asarray(function(x), np.float64)
  mean = float(np.sum(weights * y))
  return mean, float(np.sum(weights * (y - mean) ** 2))


def taps_inside(
  padding: ws_conv.PaddingRule, size: int, kernel: int, stride: int
) -> np.ndarray:
  """Returns which fraction of a window is inside the image, along one axis.

  Args:
    padding: see `ws_conv.explicit_padding`.
    size: side of the image in pixels.
    kernel: side of the window in pixels.
    stride: distance of windows in pixels.

  Returns:
    float64[n], one per window.
  """
  count = -(-size // stride)
  before = (kernel - 1) // 2
  if padding == 'same':
    before = max((count - 1) * stride + kernel - size, 0) // 2
  first = np.arange(count) * stride - before
  last = np.minimum(first + kernel, size)
  return (last - np.maximum(first, 0)) / kernel
