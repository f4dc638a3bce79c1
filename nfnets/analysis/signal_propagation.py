"""How the signal's mean and variance travel through a network.

References:
  Brock et al, `Characterizing signal propagation to close the performance gap
  in unnormalized ResNets <https://arxiv.org/abs/2101.08692>`_, 2021, section 3
  (signal propagation plots).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from nfnets.models import config as model_config
from nfnets.models import registry


class BlockStatistics(NamedTuple):
  """Of one block's output, averaged over the channels; scalars.

  Attributes:
    square_mean: the squared mean over images and pixels.
    variance: the variance over images and pixels.
    residual_variance: the same of the residual branch, before stochastic
      depth, skip gain and alpha.
  """

  square_mean: float
  variance: float
  residual_variance: float


def block_statistics(endpoints: registry.Endpoints) -> list[BlockStatistics]:
  """The signal propagation plot's three curves, block by block.

  Args:
    endpoints: what `model.apply` returned, for images of unit variance.

  Returns:
    One record per block, in order.
  """
  statistics: list[BlockStatistics] = []
  while (name := f'block_{len(statistics)}') in endpoints:
    _, residual_variance = _moments(endpoints[f'{name}/residual'])
    statistics.append(
      BlockStatistics(*_moments(endpoints[name]), residual_variance)
    )
  return statistics


def expected_variances(config: model_config.ModelConfig) -> list[float]:
  """The variance that alpha and beta foresee after each block.

  It holds at initialization, with skip gains of 1: a stage's first block gives
  1 + alpha^2 (its shortcut is a convolution of a signal of variance 1), each
  block after it adds alpha^2.

  Args:
    config: of a normalizer-free model.

  Returns:
    One variance per block, in order.
  """
  return [
    1.0 + config.alpha**2 * (block + 1)
    for blocks in config.depth
    for block in range(blocks)
  ]


def unit_variance_gain(function: Callable[[jax.Array], jax.Array]) -> float:
  """1 / std(function(x)) for x ~ N(0, 1), by quadrature.

  Args:
    function: elementwise, float to float.

  Returns:
    The exact gamma of an activation, to about six digits.
  """
  # The trapezoid rule converges fast on a Gaussian, and 0, where activations
  # have their kink, is a node.
  x = np.linspace(-10.0, 10.0, 20_001)
  weights = np.exp(-(x**2) / 2)
  weights /= weights.sum()
  y = np.asarray(function(jnp.asarray(x, jnp.float32)), np.float64)
  mean = np.sum(weights * y)
  return float(1.0 / np.sqrt(np.sum(weights * (y - mean) ** 2)))


def _moments(signal: jax.Array) -> tuple[float, float]:
  """Squared mean and variance per channel of float[B, H, W, C], averaged."""
  axes = (0, 1, 2)
  square_mean = jnp.mean(jnp.square(jnp.mean(signal, axes)))
  return float(square_mean), float(jnp.mean(jnp.var(signal, axes)))
