"""Builds ONNX graphs node by node, with the layers of normalizer-free networks.

The `onnx` package is optional and is imported on first use.
"""

import math
from typing import Any

import numpy as np

from nfnets import errors
from nfnets.layers import ws_conv
from nfnets.layers.squeeze_excite import eca_kernel_size

OPSET = 20
"""The first version of ONNX's operators with Gelu."""
IR_VERSION = 9
"""The version of the file format that came with opset 20."""

# Activation -> operator and attributes; others are built from several.
_OPERATORS: dict[str, tuple[str, dict[str, str | float]]] = {
  'celu': ('Celu', {}),
  'elu': ('Elu', {}),
  'gelu': ('Gelu', {'approximate': 'tanh'}),
  'gelu_erf': ('Gelu', {'approximate': 'none'}),
  'identity': ('Identity', {}),
  'leaky_relu': ('LeakyRelu', {'alpha': 0.01}),
  'relu': ('Relu', {}),
  'selu': ('Selu', {}),
  'sigmoid': ('Sigmoid', {}),
  'soft_sign': ('Softsign', {}),
  'softplus': ('Softplus', {}),
  'tanh': ('Tanh', {}),
}


def import_onnx() -> Any:
  """Returns the module `onnx`.

  Raises:
    UserError: it is not installed.
  """
  try:
    import onnx
  except ImportError:
    raise errors.UserError(
      '--to=onnx needs the package onnx: pip install onnx'
    ) from None
  return onnx


class Nodes:
  """A graph under construction; feature maps are float32[b, C, S, S].

  Methods take and return the names of arrays in the graph.
  """

  def __init__(self, padding: ws_conv.PaddingRule):
    """Creates an empty graph.

    Args:
      padding: see `ws_conv.explicit_padding`.
    """
    self.onnx = import_onnx()
    self.padding = padding
    self.nodes: list[Any] = []
    self.constants: list[Any] = []

  def constant(self, value: Any, dtype: Any = np.float32) -> str:
    """Adds a constant array."""
    name = f'constant_{len(self.constants)}'
    array = np.array(value, dtype, order='C')
    self.constants.append(self.onnx.numpy_helper.from_array(array, name))
    return name

  def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
    """Adds a node with one output."""
    name = f'{operator.lower()}_{len(self.nodes)}'
    self.nodes.append(
      self.onnx.helper.make_node(
        operator, inputs, [name], name=name, **attributes
      )
    )
    return name

  def activate(self, kind: str, x: str) -> str:
    """Adds an activation, a key of `activations.ACTIVATIONS`, without gamma."""
    if kind == 'silu':
      return self.add('Mul', x, self.add('Sigmoid', x))
    if kind == 'log_sigmoid':
      return self.add('Neg', self.add('Softplus', self.add('Neg', x)))
    if kind == 'relu6':
      return self.add('Clip', x, self.constant(0.0), self.constant(6.0))
    operator, attributes = _OPERATORS[kind]
    return self.add(operator, x, **attributes)

  def scale(self, x: str, factor: float) -> str:
    """Multiplies by a number."""
    return x if factor == 1 else self.add('Mul', x, self.constant(factor))

  def shift(self, x: str, value: float) -> str:
    """Adds a number."""
    return x if value == 0 else self.add('Add', x, self.constant(value))

  def conv(
    self,
    x: str,
    size: int,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int = 1,
    groups: int = 1,
  ) -> str:
    """Adds a convolution.

    Args:
      x: the input.
      size: its height and width, pixels.
      weight: float[k, k, I, O].
      bias: float[O], or None.
      stride: step in pixels along both axes.
      groups: number of groups that channels are split into.
    """
    parameters = [self.constant(np.transpose(weight, (3, 2, 0, 1)))]
    if bias is not None:
      parameters.append(self.constant(bias))
    kernel = weight.shape[0]
    return self.add(
      'Conv',
      x,
      *parameters,
      kernel_shape=[kernel, kernel],
      strides=[stride, stride],
      group=groups,
      pads=self._pads(size, kernel, stride),
    )

  def max_pool(self, x: str, size: int) -> str:
    """Adds `pooling.max_pool`; `size` is the input's height and width."""
    return self.add(
      'MaxPool',
      x,
      kernel_shape=[3, 3],
      strides=[2, 2],
      pads=self._pads(size, 3, 2),
    )

  def average_pool(self, x: str, size: int) -> str:
    """Adds `pooling.average_pool`; `size` is the input's height and width."""
    return self.add(
      'AveragePool',
      x,
      kernel_shape=[2, 2],
      strides=[2, 2],
      pads=[0, 0, size % 2, size % 2],
      count_include_pad=0,
    )

  def squeeze_excite(self, x: str, *layers: dict[str, Any]) -> str:
    """Adds `SqueezeExcite`; returns gates float[b, C, 1, 1]."""
    h = self.add('GlobalAveragePool', x)
    reduce, expand = ((layer['w'][None, None], layer['b']) for layer in layers)
    h = self.add('Relu', self.conv(h, 1, *reduce))
    return self.add('Sigmoid', self.conv(h, 1, *expand))

  def channel_attention(self, x: str, weight: np.ndarray, channels: int) -> str:
    """Adds `EfficientChannelAttention`; returns gates float[b, C, 1, 1]."""
    kernel = eca_kernel_size(channels)
    shape = self.constant([-1, 1, channels], np.int64)
    h = self.add('Reshape', self.add('GlobalAveragePool', x), shape)
    h = self.add(
      'Conv',
      h,
      self.constant(np.reshape(weight, (1, 1, kernel))),
      kernel_shape=[kernel],
      pads=[kernel // 2, kernel // 2],
    )
    shape = self.constant([-1, channels, 1, 1], np.int64)
    return self.add('Sigmoid', self.add('Reshape', h, shape))

  def _pads(self, size: int, kernel: int, stride: int) -> list[int]:
    """Returns [top, left, bottom, right] in pixels."""
    padding = ws_conv.explicit_padding(self.padding, kernel)
    if not isinstance(padding, str):
      (top, bottom), (left, right) = padding
      return [top, left, bottom, right]
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return [total // 2, total // 2, total - total // 2, total - total // 2]
