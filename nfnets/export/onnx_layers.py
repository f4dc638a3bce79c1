"""Adds the layers of a folded network to an ONNX graph, with their arrays."""

from typing import Any

import numpy as np

from nfnets import weights
from nfnets.export import onnx_nodes
from nfnets.weights import tree

_BATCH_NORM_EPSILON = 1e-5  # Haiku's


class Layers:
  """Adds a folded network's layers to a graph."""

  def __init__(self, loaded: weights.Loaded):
    """Creates an empty graph for a folded network."""
    self.loaded = loaded
    self.config = config = loaded.model.config
    self.params = tree.flatten(loaded.params)
    self.state = tree.flatten(loaded.state)
    self.nodes = onnx_nodes.Nodes(config.padding)
    self.size = config.test_size  # of the current feature map, pixels
    self.outputs = 0

  def array(self, *path: str) -> np.ndarray:
    """Returns a parameter."""
    return np.asarray(self.params['/'.join(path)], np.float32)

  def scalar(self, *path: str) -> float:
    """Returns a parameter of shape ()."""
    return float(self.array(*path))

  def activate(self, x: str) -> str:
    """Adds the network's activation, without gamma."""
    return self.nodes.activate(self.config.activation, x)

  def conv(
    self,
    x: str,
    module: str,
    *,
    stride: int = 1,
    groups: int = 1,
    factor: float = 1.0,
    norm: str = '',
    bias: float | None = None,
  ) -> str:
    """Adds a convolution.

    Args:
      x: the input, of size `self.size`.
      module: the Haiku module's name.
      stride: step in pixels along both axes.
      groups: number of groups that channels are split into.
      factor: what the input is to be multiplied by.
      norm: the batch normalization that follows, if any.
      bias: a number to add to the output of a convolution without bias.
    """
    weight = self.array(module, 'w') * np.float32(factor)
    found = [self.params.get(f'{module}/{name}') for name in ('bias', 'b')]
    vector = next((np.asarray(b) for b in found if b is not None), None)
    if bias is not None:
      vector = np.full(weight.shape[-1], bias, np.float32)
    if norm:
      scale, vector = self.norm(norm)
      weight = weight * scale
    return self.nodes.conv(x, self.size, weight, vector, stride, groups)

  def norm(self, module: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns scale and offset of a batch normalization, float[C] each."""
    mean, variance = (
      np.asarray(self.state[f'{module}/~/{key}_ema/average']).reshape(-1)
      for key in ('mean', 'var')
    )
    scale = self.array(module, 'scale').reshape(-1)
    scale = scale / np.sqrt(variance + _BATCH_NORM_EPSILON)
    return scale, self.array(module, 'offset').reshape(-1) - mean * scale

  def normalize(self, x: str, module: str) -> str:
    """Adds a batch normalization that no convolution precedes."""
    scale, offset = (v.reshape(-1, 1, 1) for v in self.norm(module))
    x = self.nodes.add('Mul', x, self.nodes.constant(scale))
    return self.nodes.add('Add', x, self.nodes.constant(offset))

  def halve(self, stride: int = 2) -> None:
    """Divides the size of the feature map by the stride."""
    self.size = -(-self.size // stride)

  def at(self, size: int, *arguments: Any, **options: Any) -> str:
    """Adds a convolution of a feature map of another size."""
    self.size, before = size, self.size
    result = self.conv(*arguments, **options)
    self.size = before
    return result

  def attend(self, h: str, module: str, channels: int, factor: float) -> str:
    """Multiplies by the gates of the block's attention, times a factor."""
    nodes = self.nodes
    if self.config.eca:
      weight = self.array(module, '~', 'eca', 'w')
      gates = nodes.channel_attention(h, weight, channels)
    elif self.config.se_ratio:
      root = f'{module}/~/squeeze_excite/~'
      gates = nodes.squeeze_excite(
        h,
        *(
          {key: self.array(root, name, key) for key in 'wb'}
          for name in ('linear', 'linear_1')
        ),
      )
    else:
      return h
    return nodes.add('Mul', h, nodes.scale(gates, factor))
