"""Networks with random weights against timm, where it is installed."""

import jax
import numpy as np
import pytest

from nfnets import models
from nfnets.layers import convolution
from nfnets.models import catalogue
from nfnets.weights import timm as timm_layout
from tests import filled, helpers
from tests.golden import fill

pytestmark = pytest.mark.slow

# Fraction of the logits' standard deviation.
TOLERANCE = 1e-5
# Has a block of each kind, and a beta that grows; golden.json has the full
# depths.
DEPTH = (1, 2, 1, 1)
# One model of each family, with the options that make it equal timm's.
DM_OPTIONS = {'activation': 'gelu_erf', 'ws_epsilon': 'additive'}
FAMILIES = {
  'test_nfnet': {},
  'nfnet_l0': {},
  'eca_nfnet_l0': {},
  'timm_nf_regnet_b0': {},
  'timm_nf_resnet26': {},
  'timm_nf_seresnet26': {},
  'timm_nf_ecaresnet26': {},
  'nfnet_f0': DM_OPTIONS,
}


@pytest.fixture(scope='module')
def timm():
  return helpers.timm()


def _timm_params(net, model):
  """Returns our parameters with the values of a timm network."""
  tensors = {k: v.numpy() for k, v in net.state_dict().items()}
  wanted = {
    f'{module}/{name}': leaf
    for module, leaves in filled.shapes(model).items()
    for name, leaf in leaves.items()
  }
  assert len(wanted) == len(tensors)
  params = {}
  flat = timm_layout.from_timm(tensors, wanted, model.config)
  for path, value in flat.items():
    assert value.shape == wanted[path].shape
    module, _, name = path.rpartition('/')
    params.setdefault(module, {})[name] = value
  return params


def _apply(model, params, images):
  # XLA's own convolutions compile fastest.
  with convolution.lowering('plain'):
    apply = jax.jit(model.apply, static_argnums=4)
    return apply(params, {}, None, images, False)


@pytest.fixture(scope='module', params=FAMILIES)
def pair(request, timm):
  """Returns a timm network with random values, our model, its parameters."""
  import torch

  torch.manual_seed(0)
  name = request.param
  model = models.create_model(name, depth=DEPTH, **FAMILIES[name])
  net = timm.create_model(catalogue.timm_name(name), depths=DEPTH).eval()
  with torch.no_grad():
    for name, parameter in net.named_parameters():
      if name.endswith('gain'):
        parameter.uniform_(0.5, 1.5)
      elif parameter.ndim <= 1:
        parameter.normal_(0.0, 0.1)
      else:
        fan_in = parameter[0].numel()
        parameter.normal_(0.0, fan_in**-0.5)
  return net, model, _timm_params(net, model)


@pytest.mark.parametrize('size', [64, 75])
def test_logits_are_timms(pair, size):
  import torch

  net, model, params = pair
  images = fill.image(2, size)
  with torch.no_grad():
    expected = net(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
  expected = expected.numpy()
  (logits, _), _ = _apply(model, params, images)
  error = np.abs(np.asarray(logits) - expected).max() / expected.std()
  assert error < TOLERANCE


def test_feature_maps_are_timms(timm):
  import torch

  torch.manual_seed(0)
  net = timm.create_model('test_nfnet').eval()
  model = models.create_model('test_nfnet')
  images = fill.image(2, 75)
  with torch.no_grad():
    maps = net.forward_intermediates(
      torch.from_numpy(images.transpose(0, 3, 1, 2).copy()),
      intermediates_only=True,
    )
  (_, endpoints), _ = _apply(model, _timm_params(net, model), images)
  for stride, expected in zip((2, 4, 8, 16, 32), maps, strict=True):
    ours = np.asarray(endpoints[f'stride_{stride}']).transpose(0, 3, 1, 2)
    assert np.abs(ours - expected.numpy()).max() < 1e-4 * expected.std()


@pytest.mark.parametrize(
  'name', [n for n in models.list_models() if catalogue.timm_name(n)]
)
def test_sizes_and_counts_are_timms(timm, name):
  config = models.create_model(name).config
  theirs = timm.get_pretrained_cfg(catalogue.timm_name(name))
  test_size = theirs.test_input_size or theirs.input_size
  assert config.train_size == theirs.input_size[-1]
  assert config.test_size == test_size[-1]
  assert config.crop_pct == (theirs.test_crop_pct or theirs.crop_pct)
  assert config.crop_mode == (theirs.crop_mode or 'center')
  assert (config.mean, config.std) == (theirs.mean, theirs.std)
