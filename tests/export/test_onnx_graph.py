"""ONNX files of one model per family against our logits."""

import json
import sys

import jax
import numpy as np
import pytest

from nfnets import errors, models, weights
from nfnets.augment import preprocess
from nfnets.export import onnx_graph
from nfnets.layers import activations, convolution
from nfnets.weights import tree
from tests import filled
from tests.golden import fill
from tests.weights import tiny

# OpenVINO starts a process when it is imported.
pytestmark = pytest.mark.filterwarnings('ignore:os.fork')

_TOLERANCE = 1e-4  # times the logits' standard deviation
_NARROW = {'width': 0.125, 'depth': (1, 2, 1, 1)}
_FAMILIES = {
  'nfnet_f0': _NARROW | {'group_size': 16},
  'nfnet_f0+': _NARROW | {'group_size': 16, 'activation': 'gelu_erf'},
  'nf_resnet50': {'width': 0.5, 'depth': (1, 2, 1, 1)},
  'nf_regnet_b0': {},
  'skipinit_resnet50': {'width': 0.5, 'depth': (1, 2, 1, 1)},
  'resnet50': {'width': 0.5, 'depth': (1, 2, 1, 1)},
  'resnet101': {
    'width': 0.5,
    'depth': (1, 2, 1, 1),
    'preactivation': False,
    'se_ratio': 0.25,
  },
  'fixup_resnet50': {'width': 0.5, 'depth': (1, 2, 1, 1)},
  'test_nfnet': {},
  'eca_nfnet_l0': {'width': 0.25, 'depth': (1, 2, 1, 1), 'group_size': 16},
  'timm_nf_regnet_b0': {},
  'timm_nf_seresnet26': {'width': 0.5},
  'timm_nf_ecaresnet26': {'width': 0.5},
}


def _loaded(name, **options):
  # An odd feature map on the way: 80, 40, 20, 10, 5, 3.
  options = {'num_classes': 10, 'test_size': 80, **options}
  model = models.create_model(name, **options)
  params = filled.params(model)
  state = {}
  random = np.random.default_rng(0)
  for path, shape in tree.expected(model.config).state.items():
    module, leaf = path.rsplit('/', 1)
    low, high = (-0.5, 0.5) if '/mean_ema' in path else (0.5, 1.5)
    value = random.uniform(low, high, shape.shape).astype(shape.dtype)
    state.setdefault(module, {})[leaf] = value
  if state:
    # With the filled values, batch normalization hides the image.
    params = _random(params, random)
  names = tuple(f'name {i}' for i in range(model.config.num_classes))
  return weights.Loaded(model, params, state, names, 'timm')


def _random(params, random):
  def draw(name, shape):
    if name == 'w':
      scale = np.sqrt(2 / np.prod(shape[:-1]))
      return random.normal(size=shape) * scale
    return random.normal(float(name == 'scale'), 0.2, shape)

  return {
    module: {
      name: draw(name, value.shape).astype(np.float32)
      for name, value in values.items()
    }
    for module, values in params.items()
  }


def _logits(loaded, images):
  apply = jax.jit(loaded.model.apply, static_argnums=4)
  with convolution.lowering('plain'):
    outputs = apply(loaded.params, loaded.state, None, images, False)
  return np.asarray(outputs[0][0])


def _in_onnxruntime(content, images):
  onnxruntime = pytest.importorskip('onnxruntime')
  session = onnxruntime.InferenceSession(
    content, providers=['CPUExecutionProvider']
  )
  (outputs,) = session.run(None, {'images': images})
  return outputs


def _in_openvino(content, images):
  openvino = pytest.importorskip('openvino')
  core = openvino.Core()
  settings = {'INFERENCE_PRECISION_HINT': 'f32'}
  compiled = core.compile_model(core.read_model(content), 'CPU', settings)
  return next(iter(compiled(images).values()))


@pytest.mark.slow
@pytest.mark.parametrize('run', [_in_onnxruntime, _in_openvino])
@pytest.mark.parametrize('name', _FAMILIES)
def test_logits(name, run):
  onnx = pytest.importorskip('onnx')
  loaded = _loaded(name, **_FAMILIES[name])
  content = onnx_graph.export_onnx(loaded)
  onnx.checker.check_model(content, full_check=True)
  for batch in (1, 3):
    images = fill.image(batch, 80)
    wanted = _logits(loaded, images)
    if batch > 1:
      assert wanted.std(axis=0).max() > 0.05 * wanted.std()
    np.testing.assert_allclose(
      run(content, images), wanted, rtol=0, atol=_TOLERANCE * wanted.std()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'stem'),
  [
    ('nf_resnet50', 'deep'),
    ('nf_resnet50', '3x3'),
    ('nf_resnet50', 'small'),
    ('resnet50', 'small'),
    ('fixup_resnet50', 'small'),
  ],
)
def test_stems(name, stem):
  pytest.importorskip('onnx')
  loaded = _loaded(name, **_FAMILIES[name], stem=stem)
  images = fill.image(2, 80)
  wanted = _logits(loaded, images)
  found = _in_onnxruntime(onnx_graph.export_onnx(loaded), images)
  np.testing.assert_allclose(
    found, wanted, rtol=0, atol=_TOLERANCE * wanted.std()
  )


@pytest.mark.slow
@pytest.mark.parametrize('activation', sorted(activations.ACTIVATIONS))
def test_activations(activation):
  pytest.importorskip('onnx')
  loaded = _loaded('test_nfnet', activation=activation)
  images = fill.image(1, 80)
  wanted = _logits(loaded, images)
  found = _in_onnxruntime(onnx_graph.export_onnx(loaded), images)
  np.testing.assert_allclose(
    found, wanted, rtol=0, atol=_TOLERANCE * wanted.std()
  )


@pytest.mark.slow
def test_images_in_and_probabilities_out():
  onnx = pytest.importorskip('onnx')
  loaded = _loaded('test_nfnet')
  content = onnx_graph.export_onnx(loaded, uint8=True, probabilities=True)
  exported = onnx.load_from_string(content)
  assert [(o.domain, o.version) for o in exported.opset_import] == [('', 20)]
  metadata = {p.key: json.loads(p.value) for p in exported.metadata_props}
  assert metadata['class_names'] == list(loaded.class_names)
  assert metadata['input'] == 'uint8' and metadata['size'] == 80
  assert metadata['output'] == exported.graph.output[0].name == 'probabilities'
  images = np.random.default_rng(0).integers(0, 256, (2, 80, 80, 3), np.uint8)
  config = loaded.model.config
  normalized = preprocess.normalize(images, config.mean, config.std)
  wanted = jax.nn.softmax(_logits(loaded, normalized))
  for run in (_in_onnxruntime, _in_openvino):
    found = run(content, images)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_backbone():
  pytest.importorskip('onnx')
  loaded = _loaded('nf_regnet_b0', num_classes=0)
  images = fill.image(2, 80)
  wanted = _logits(loaded, images)
  found = _in_onnxruntime(onnx_graph.export_onnx(loaded), images)
  assert found.shape == wanted.shape
  np.testing.assert_allclose(
    found, wanted, rtol=0, atol=_TOLERANCE * wanted.std()
  )


def test_a_missing_package_is_one_line(monkeypatch, tmp_path):
  tiny.save(tmp_path / 'file')
  monkeypatch.setitem(sys.modules, 'onnx', None)
  with pytest.raises(errors.UserError, match='pip install onnx'):
    onnx_graph.export_onnx(weights.load_model(tmp_path / 'file'))
