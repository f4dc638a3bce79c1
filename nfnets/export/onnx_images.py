"""Adds to an ONNX graph what happens to images before the network."""

import math
from collections.abc import Sequence

import numpy as np

from nfnets import weights
from nfnets.data import crops
from nfnets.export import onnx_nodes
from nfnets.models import config as model_config


def add_images(
  nodes: onnx_nodes.Nodes,
  loaded: weights.Loaded,
  *,
  uint8: bool,
  preprocess: bool,
) -> str:
  """Adds the way from the graph's input `images` to the network's.

  Args:
    nodes: the graph.
    loaded: the network.
    uint8: see `onnx_graph.export_onnx`.
    preprocess: see `onnx_graph.export_onnx`.

  Returns:
    The name of float32[b, 3, S, S], normalized, with the model's test size S.

  Raises:
    UserError: the evaluation preset or a crop setting is unknown.
  """
  x = nodes.add('Transpose', 'images', perm=[0, 3, 1, 2])
  if preprocess:
    x = _crop(nodes, x, loaded)
  elif uint8:
    x = nodes.add('Cast', x, to=nodes.onnx.TensorProto.FLOAT)
  return _normalize(nodes, x, loaded.model.config) if uint8 or preprocess else x


def _normalize(
  nodes: onnx_nodes.Nodes, x: str, config: model_config.ModelConfig
) -> str:
  mean, std = (
    np.asarray(values).reshape(3, 1, 1) for values in (config.mean, config.std)
  )
  x = nodes.add('Sub', x, nodes.constant(255 * mean))
  return nodes.add('Mul', x, nodes.constant(1 / (255 * std)))


def _crop(nodes: onnx_nodes.Nodes, x: str, loaded: weights.Loaded) -> str:
  """Adds `crops.eval_crop`: uint8[b, 3, H, W] to float32[b, 3, S, S]."""
  config = loaded.model.config
  size, mode = config.test_size, config.crop_mode
  preset = crops.check_preset(loaded.eval_preset, config.crop_pct, mode)
  if preset == 'deepmind':
    side = size + crops.MARGIN
    x = _resize(nodes, x, _sizes(nodes, side))
    start = _sizes(nodes, crops.MARGIN // 2)
    return _cut(nodes, x, start, _sizes(nodes, size))
  shape = nodes.add('Shape', x, start=2)
  if preset == 'deepmind_crop':
    shorter = nodes.add('ReduceMin', shape, keepdims=1)
    shown = nodes.add('Mul', shorter, _sizes(nodes, size))
    shown = nodes.add('Div', shown, _sizes(nodes, size + crops.MARGIN))
    shown = nodes.add('Max', shown, _sizes(nodes, 1))
    # The published code rounds the margin up.
    margin = nodes.add('Sub', shape, shown)
    start = nodes.add('Add', margin, _sizes(nodes, 1))
    start = nodes.add('Div', start, _sizes(nodes, 2))
    x = _cut(nodes, x, start, shown)
    return _resize(nodes, x, _sizes(nodes, size))
  return _antialias_then_cut(nodes, x, shape, config)


def _antialias_then_cut(
  nodes: onnx_nodes.Nodes,
  x: str,
  shape: str,
  config: model_config.ModelConfig,
) -> str:
  """Adds `resizing.resize_antialiased` as two products of matrices.

  Runtimes disagree on the operator Resize with antialiasing.
  """
  size, types = config.test_size, nodes.onnx.TensorProto
  side = nodes.constant(math.floor(size / config.crop_pct), np.int64)
  shorter = nodes.add('ReduceMin', shape, keepdims=0)
  filters = []
  for axis in (0, 1):
    old = nodes.add('Gather', shape, nodes.constant(axis, np.int64))
    new = side
    if config.crop_mode == 'center':
      new = nodes.add('Div', nodes.add('Mul', old, side), shorter)
    margin = nodes.add('Sub', new, nodes.constant(size, np.int64))
    margin = nodes.add('Cast', margin, to=types.FLOAT)
    # Round halves to even, as Python does.
    start = nodes.add('Round', nodes.scale(margin, 0.5))
    start = nodes.add('Cast', start, to=types.INT64)
    filters.append(_filter(nodes, old, new, start, size))
  vertical, horizontal = filters
  x = nodes.add('Cast', x, to=types.FLOAT)
  x = nodes.add('MatMul', x, nodes.add('Transpose', horizontal, perm=[1, 0]))
  x = nodes.add('MatMul', vertical, _rounded(nodes, x))
  return _rounded(nodes, x)


def _rounded(nodes: onnx_nodes.Nodes, x: str) -> str:
  """Rounds to whole numbers from 0 to 255."""
  x = nodes.add('Floor', nodes.shift(x, 0.5))
  return nodes.add('Clip', x, nodes.constant(0.0), nodes.constant(255.0))


def _filter(
  nodes: onnx_nodes.Nodes, old: str, new: str, start: str, size: int
) -> str:
  """Adds the antialiased cubic filter of a part of a side.

  Args:
    nodes: the graph.
    old: the side's length in pixels, int64[].
    new: its new length, int64[].
    start: the first new pixel to compute, int64[].
    size: the number of new pixels to compute, S.

  Returns:
    float32[S, old].
  """
  types = nodes.onnx.TensorProto
  one, two = (nodes.constant(number, np.int64) for number in (1, 2))
  # Pixel i covers [i, i + 1). With integers, the distances are exact.
  centers = nodes.constant(2 * np.arange(size)[:, None] + 1, np.int64)
  centers = nodes.add('Add', nodes.add('Mul', start, two), centers)
  pixels = nodes.add('Range', one, nodes.add('Mul', old, two), two)
  distance = nodes.add(
    'Sub', nodes.add('Mul', pixels, new), nodes.add('Mul', centers, old)
  )
  reach = nodes.add('Mul', nodes.add('Max', old, new), two)
  x = nodes.add(
    'Div',
    nodes.add('Cast', nodes.add('Abs', distance), to=types.FLOAT),
    nodes.add('Cast', reach, to=types.FLOAT),
  )
  near = _polynomial(nodes, x, (1.5, -2.5, 0, 1))
  far = _polynomial(nodes, x, (-0.5, 2.5, -4, 2))
  limits = (nodes.constant(float(number)) for number in (1, 2))
  inner, outer = (nodes.add('Less', x, limit) for limit in limits)
  far = nodes.add('Where', outer, far, nodes.constant(0.0))
  taps = nodes.add('Where', inner, near, far)
  axes = nodes.constant([1], np.int64)
  return nodes.add('Div', taps, nodes.add('ReduceSum', taps, axes))


def _polynomial(
  nodes: onnx_nodes.Nodes, x: str, coefficients: Sequence[float]
) -> str:
  """Adds a polynomial; the highest power comes first."""
  first, *rest = coefficients
  result = nodes.constant(first)
  for coefficient in rest:
    result = nodes.shift(nodes.add('Mul', result, x), coefficient)
  return result


def _sizes(nodes: onnx_nodes.Nodes, value: int) -> str:
  """Adds a constant for height and width, int64[2]."""
  return nodes.constant([value, value], np.int64)


def _cut(nodes: onnx_nodes.Nodes, x: str, start: str, sizes: str) -> str:
  """Adds a crop; `start` and `sizes` are int64[2], in pixels."""
  stop = nodes.add('Add', start, sizes)
  axes = nodes.constant([2, 3], np.int64)
  return nodes.add('Slice', x, start, stop, axes)


def _resize(nodes: onnx_nodes.Nodes, x: str, sizes: str) -> str:
  """Adds OpenCV's INTER_CUBIC: uint8 to whole numbers in float32."""
  x = nodes.add('Cast', x, to=nodes.onnx.TensorProto.FLOAT)
  x = nodes.add(
    'Resize',
    *(x, '', '', sizes),
    axes=[2, 3],
    mode='cubic',
    cubic_coeff_a=-0.75,
  )
  x = nodes.add('Round', x)
  return nodes.add('Clip', x, nodes.constant(0.0), nodes.constant(255.0))
