"""Folders for timm's local-dir against our logits."""

import json

import jax
import numpy as np
import pytest

from nfnets import errors, models, weights
from nfnets.export import timm_folder
from nfnets.layers import convolution
from tests import filled, helpers
from tests.golden import fill

_NARROW = {'width': 0.125, 'depth': (1, 2, 1, 1), 'group_size': 16}
_FAMILIES = (
  ('nfnet_f0', _NARROW | {'activation': 'gelu_erf'}),
  ('nfnet_f0', _NARROW | {'activation': 'gelu_erf', 'stem': '3x3'}),
  ('test_nfnet', {}),
  ('eca_nfnet_l0', {'width': 0.25, 'depth': (1, 2, 1, 1), 'group_size': 16}),
  ('timm_nf_regnet_b0', {'width': 0.5}),
  ('timm_nf_seresnet26', {'width': 2.0}),
)


def _loaded(name, **options):
  model = models.create_model(
    name, **{'num_classes': 10, 'test_size': 64, **options}
  )
  names = tuple(f'name {i}' for i in range(10))
  return weights.Loaded(model, filled.params(model), {}, names, 'timm')


def _logits(loaded, images):
  with convolution.lowering('plain'):
    apply = jax.jit(loaded.model.apply, static_argnums=4)
    return np.asarray(apply(loaded.params, {}, None, images, False)[0][0])


@pytest.mark.slow
@pytest.mark.parametrize('name, options', _FAMILIES)
def test_timm_computes_our_logits(tmp_path, name, options):
  timm = helpers.timm()
  import torch

  loaded = _loaded(name, **options)
  timm_folder.write(loaded, tmp_path / 'out')
  net = timm.create_model(f'local-dir:{tmp_path}/out', pretrained=True).eval()
  assert net.pretrained_cfg['label_names'] == list(loaded.class_names)
  data = timm.data.resolve_model_data_config(net)
  assert tuple(data['input_size']) == (3, 64, 64)
  assert data['crop_pct'] == loaded.model.config.crop_pct
  assert data['interpolation'] == 'bicubic'
  assert tuple(data['mean']) == loaded.model.config.mean
  images = fill.image(2, 64)
  with torch.no_grad():
    found = net(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
  wanted = _logits(loaded, images)
  np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * wanted.std())


def test_description_has_real_channels():
  loaded = _loaded('nfnet_f0', **_NARROW)
  found = timm_folder.describe(loaded._replace(eval_preset='deepmind'))
  json.dumps(found)
  assert found['architecture'] == 'dm_nfnet_f0'
  assert found['label_names'][9] == 'name 9'
  assert found['model_args']['channels'] == [32, 64, 192, 192]
  assert found['model_args']['num_features'] == 384
  assert found['pretrained_cfg']['crop_pct'] == 64 / 96
  assert found['pretrained_cfg']['crop_mode'] == 'squash'


@pytest.mark.parametrize(
  'options, field',
  [
    ({'activation': 'soft_sign'}, 'activation'),
    ({'pool_shortcut': False}, 'pool_shortcut'),
    ({'stem_width': 64}, 'stem_width'),
    ({'stem': '7x7_pool'}, 'stem'),
    ({'width': 0.0655, 'group_size': 1}, 'bottleneck_ratio'),
  ],
)
def test_what_timm_lacks_is_named(options, field):
  model = models.create_model('nfnet_f0', **{**_NARROW, **options})
  loaded = weights.Loaded(model, {}, {}, (), 'timm')
  with pytest.raises(errors.UserError, match=f'network with {field}='):
    timm_folder.describe(loaded)


@pytest.mark.slow
def test_difference_is_of_tanh_only():
  options = {**_NARROW, 'depth': (1, 1, 1, 1), 'test_size': 32}
  with convolution.lowering('plain'):
    assert 0 < timm_folder.difference(_loaded('nfnet_f0', **options)) < 0.1
  assert timm_folder.difference(_loaded('test_nfnet')) == 0
