"""Signal propagation: mean and variance of activations, block by block.

References:
  Brock et al, `Characterizing signal propagation to close the performance gap
  in unnormalized ResNets <https://arxiv.org/abs/2101.08692>`_, 2021, section 3.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from nfnets.models import config as model_config
from nfnets.models import registry


class BlockStatistics(NamedTuple):
  """Per-channel statistics of one block, averaged over the channels.

  Attributes:
    square_mean: squared mean of the block's output over images and pixels.
    variance: variance of the block's output over images and pixels.
    residual_variance: variance of the residual branch's output, before
      stochastic depth, skip gain and alpha.
  """

  square_mean: float
  variance: float
  residual_variance: float


def block_statistics(endpoints: registry.Endpoints) -> list[BlockStatistics]:
  """Computes the three curves of a signal propagation plot.

  Args:
    endpoints: the endpoints from `model.apply`; the paper feeds the network
      images of unit variance.

  Returns:
    The statistics of each block, in order.
  """
  statistics: list[BlockStatistics] = []
  while (name := f'block_{len(statistics)}') in endpoints:
    _, residual_variance = _moments(endpoints[f'{name}/residual'])
    statistics.append(
      BlockStatistics(*_moments(endpoints[name]), residual_variance)
    )
  return statistics


def expected_variances(config: model_config.ModelConfig) -> list[float]:
  """Returns the analytic variance after each block at initialization.

  It assumes skip gains of 1. The output of a stage's first block has variance
  1 + alpha^2, because its shortcut convolves a signal of variance 1; each
  later block of the stage adds alpha^2.

  Args:
    config: the configuration of a normalizer-free model.

  Returns:
    The variance after each block, in order.
  """
  return [
    1.0 + config.alpha**2 * (block + 1)
    for blocks in config.depth
    for block in range(blocks)
  ]


def unit_variance_gain(function: Callable[[jax.Array], jax.Array]) -> float:
  """Computes the gain gamma = 1 / std(function(x)), x ~ N(0, 1).

  Args:
    function: elementwise activation function.

  Returns:
    The gain, by numerical integration, to about six digits.
  """
  # The trapezoid rule converges fast on a Gaussian. The grid contains 0, where
  # activations such as ReLU have their kink.
  x = np.linspace(-10.0, 10.0, 20_001)
  weights = np.exp(-(x**2) / 2)
  weights /= weights.sum()
  y = np.asarray(function(jnp.asarray(x, jnp.float32)), np.float64)
  mean = np.sum(weights * y)
  return float(1.0 / np.sqrt(np.sum(weights * (y - mean) ** 2)))


def _moments(signal: jax.Array) -> tuple[float, float]:
  """Returns squared mean and variance over B, H, W, averaged over channels."""
  axes = (0, 1, 2)
  square_mean = jnp.mean(jnp.square(jnp.mean(signal, axes)))
  return float(square_mean), float(jnp.mean(jnp.var(signal, axes)))
