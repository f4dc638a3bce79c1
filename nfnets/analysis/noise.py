"""Analytic signal propagation of normalizer-free networks on Gaussian noise.

The recursion takes every convolution as a sum over many independent filters. It
holds on average over the initial weights, and the better the wider the network.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from numpy import typing as npt

from nfnets.layers import activations, ws_conv
from nfnets.models import config as model_config
from nfnets.models import scaling

_POOL_WINDOW = 9  # pixels of the stem's max pooling

Map: TypeAlias = npt.NDArray[np.float64]
"""A number for each pixel, float64[H, W]."""


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
  """Mean and variance of a feature map over the weights and images."""

  mean: Map
  variance: Map


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
      is most of a feature map of 7x7 pixels. The variance is computed pixel by
      pixel, since the next convolution reads a border less often.

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
      shortcut = (
        _average_pool(activated.variance)
        if pools
        else activated.variance[:: plan.stride, :: plan.stride]
      )
    variance = shortcut + config.alpha**2 * residual
    signal = _centered(variance)
    found.append(Variances(float(variance.mean()), float(residual.mean())))
  return found


def _centered(variance: Map) -> _Signal:
  return _Signal(np.zeros_like(variance), variance)


def _stem(config: model_config.ModelConfig, size: int) -> tuple[_Signal, int]:
  """Returns the first block's input, and how many pixels it is the maximum of.

  Max pooling is applied together with the next activation.
  """
  gamma = activations.get(config.activation).gamma
  # With gamma in the weights, the first convolution has it too.
  first = gamma**2 if config.gamma_in_weights else 1.0
  signal = _centered(np.full((size, size), first))
  if config.stem == 'deep':
    signal = _convolve(config, signal, 3, 2)
    for stride in (1, 1, 2):
      signal = _convolve(config, _activate(config, signal), 3, stride)
    return signal, 1
  signal = _convolve(config, signal, *scaling.stem_filters(config))
  if config.stem != '7x7_pool':
    return signal, 1
  return _centered(signal.variance[::2, ::2]), _POOL_WINDOW


def _activate(
  config: model_config.ModelConfig,
  signal: _Signal,
  beta: float = 1.0,
  window: int = 1,
) -> _Signal:
  """Applies gamma * activation * beta to the maximum of `window` normals."""
  activation = activations.get(config.activation)
  # Most pixels are not near the border, and equal.
  different, where = np.unique(signal.variance.round(12), return_inverse=True)
  found = moments(activation.function, different, window)
  mean, variance = (x[where.reshape(signal.variance.shape)] for x in found)
  factor = activation.gamma * beta
  return _Signal(factor * mean, factor**2 * variance)


def _convolve(
  config: model_config.ModelConfig, signal: _Signal, kernel: int, stride: int
) -> _Signal:
  """Applies standardized filters: zero sum, unit norm.

  The variance is the mean over the window, in which padding counts as 0. Since
  filters have zero sum, the inputs' mean contributes where it varies within
  the window, as it does at the border.
  """

  def window_means(values: Map) -> Map:
    return means(values, config.padding, kernel, stride)

  of_mean = window_means(signal.mean**2) - window_means(signal.mean) ** 2
  return _centered(window_means(signal.variance) + of_mean)


def means(
  values: Map, padding: ws_conv.PaddingRule, kernel: int, stride: int
) -> Map:
  """Averages windows of an image, in which padding counts as 0.

  Args:
    values: float64[H, W].
    padding: see `ws_conv.explicit_padding`.
    kernel: side of the window in pixels.
    stride: distance of windows in pixels.

  Returns:
    float64[ceil(H / stride), ceil(W / stride)].
  """
  pads = ws_conv.explicit_padding(padding, kernel)
  if isinstance(pads, str):
    sides = (kernel, kernel), (stride, stride)
    pads = lax.padtype_to_pads(values.shape, *sides, pads)
  windows = np.lib.stride_tricks.sliding_window_view(
    np.pad(values, pads), (kernel, kernel)
  )
  return windows[::stride, ::stride].mean((2, 3))


def _average_pool(variance: Map) -> Map:
  """Returns the variance of the means of 2x2 independent pixels."""
  inside = means(np.ones_like(variance), 'same', 2, 2)
  return means(variance, 'same', 2, 2) / (4 * inside**2)


def moments(
  function: Callable[[jax.Array], jax.Array],
  variance: npt.ArrayLike,
  window: int = 1,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
  """Computes mean and variance of function(max(x_1, ..., x_window)).

  Args:
    function: elementwise.
    variance: float[...], variance of the independent x_i ~ N(0, variance).
    window: their number.

  Returns:
    Mean and variance, float64[...], by numerical integration.
  """
  z = np.linspace(-10.0, 10.0, 4001)
  below = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z])
  weights = np.exp(-(z**2) / 2) * below ** (window - 1)
  weights /= weights.sum()
  x = np.sqrt(np.asarray(variance, np.float64))[..., None] * z
  y = np.asarray(function(jnp.asarray(x, jnp.float32)), np.float64)
  mean = y @ weights
  return mean, (y - mean[..., None]) ** 2 @ weights
