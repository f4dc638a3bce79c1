"""Resizing and cropping inside of ONNX files against our own."""

import dataclasses

import numpy as np
import pytest

from nfnets import models, weights
from nfnets.data import crops
from nfnets.export import onnx_images, onnx_nodes
from tests.data import pictures

# OpenVINO starts a process when it is imported.
pytestmark = [
  pytest.mark.slow,
  pytest.mark.filterwarnings('ignore:os.fork'),
]

_SIZE = 48
# Small, large, of odd sizes, narrower and wider than high.
_SHAPES = [(30, 41), (201, 96), (96, 333), (160, 160)]
_PRESETS = [
  ('timm', 0.9, 'center'),
  ('timm', 0.875, 'squash'),
  ('deepmind', 0.9, 'center'),
  ('deepmind_crop', 0.9, 'center'),
]


def _cropper(preset, crop_pct, crop_mode):
  """Returns an ONNX file of uint8[b, H, W, 3] -> float32[b, 3, S, S]."""
  onnx = pytest.importorskip('onnx')
  model = models.create_model('test_nfnet', 2, test_size=_SIZE)
  config = dataclasses.replace(
    model.config,
    **{'crop_pct': crop_pct, 'crop_mode': crop_mode},
    **{'mean': (0.0,) * 3, 'std': (1.0,) * 3},
  )
  model = model._replace(config=config)
  loaded = weights.Loaded(model, {}, {}, ('a', 'b'), preset)
  nodes = onnx_nodes.Nodes(config.padding)
  onnx_images.add_images(nodes, loaded, uint8=False, preprocess=True)
  nodes.nodes[-1].output[0] = 'out'
  helper, types = onnx.helper, onnx.TensorProto
  images = helper.make_tensor_value_info(
    'images', types.UINT8, ['b', 'h', 'w', 3]
  )
  out = helper.make_tensor_value_info('out', types.FLOAT, ['b', 3, 's', 's'])
  graph = helper.make_graph(nodes.nodes, 'g', [images], [out], nodes.constants)
  return helper.make_model(
    graph,
    opset_imports=[helper.make_opsetid('', onnx_nodes.OPSET)],
    ir_version=onnx_nodes.IR_VERSION,
  ).SerializeToString()


def _onnxruntime(content):
  onnxruntime = pytest.importorskip('onnxruntime')
  session = onnxruntime.InferenceSession(
    content, providers=['CPUExecutionProvider']
  )
  return lambda images: session.run(None, {'images': images})[0]


def _openvino(content):
  openvino = pytest.importorskip('openvino')
  core = openvino.Core()
  settings = {'INFERENCE_PRECISION_HINT': 'f32'}
  compiled = core.compile_model(core.read_model(content), 'CPU', settings)
  return lambda images: next(iter(compiled(images).values()))


@pytest.mark.parametrize('run_with', [_onnxruntime, _openvino])
@pytest.mark.parametrize('preset, crop_pct, crop_mode', _PRESETS)
def test_crops_are_those_of_an_evaluation(
  preset, crop_pct, crop_mode, run_with
):
  run = run_with(_cropper(preset, crop_pct, crop_mode))
  for shape in _SHAPES:
    image = pictures.photograph(*shape)
    batch = np.stack([image, image[:, ::-1]])
    wanted = np.zeros((2, _SIZE, _SIZE, 3), np.uint8)
    for picture, out in zip(batch, wanted, strict=True):
      crops.eval_crop(picture, out, preset, crop_pct, crop_mode)
    found = run(batch).transpose(0, 2, 3, 1) * 255
    levels = np.abs(found - wanted)
    # Where a sum is close to a half, it may be rounded the other way.
    assert levels.max() < 1.01, shape
    assert levels.mean() < 1e-3, shape
