"""timm's layout: names, exact conversion and logits."""

import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from nfnets import errors, models, weights
from nfnets.layers import convolution
from nfnets.models import catalogue
from nfnets.weights import timm, tree
from tests import filled, helpers
from tests.golden import fill
from tests.weights import tiny

_NAMES = list(filter(catalogue.timm_name, models.list_models()))


def _logits(model, params, images):
  apply = jax.jit(model.apply, static_argnums=4)
  # This lowering compiles fastest, above all for RegNet's many small groups.
  with convolution.lowering('plain'):
    return np.asarray(apply(params, {}, None, images, False)[0][0])


@pytest.mark.parametrize(
  ('golden', 'name'),
  [
    ('dm_nfnet_f0@64', 'nfnet_f0'),
    ('nf_resnet50@64', 'timm_nf_resnet50'),
    ('nf_regnet_b1@64', 'timm_nf_regnet_b1'),
  ],
)
def test_names_and_shapes_match_timm(golden, name):
  config = models.create_model(name).config
  wanted = tree.expected(config).params
  found = {
    f'{theirs} {layout.timm_shape(wanted[path].shape)}'
    for path, (theirs, layout) in timm.layouts(wanted, config).items()
  }
  assert found == set(helpers.golden()['timm'][golden]['names'])


@pytest.mark.parametrize(
  'name', ['test_nfnet', 'timm_nf_regnet_b0', 'timm_nf_ecaresnet26']
)
def test_round_trip_of_a_timm_file_is_bitwise(tmp_path, name):
  tensors = filled.timm_tensors(models.create_model(name))
  safetensors_numpy.save_file(tensors, tmp_path / 'timm', {'format': 'pt'})
  params, state = weights.load(tmp_path / 'timm', name)
  weights.save(tmp_path / 'back', params, state, name, layout='timm')
  back = safetensors_numpy.load_file(tmp_path / 'back')
  assert back.keys() == tensors.keys()
  for key, value in tensors.items():
    assert back[key].shape == value.shape
    assert back[key].tobytes() == value.tobytes()
  # The tensors alone determine the model.
  assert weights.load_model(tmp_path / 'timm').model.config.name == name
  assert weights.load_model(tmp_path / 'timm').eval_preset == 'timm'


@pytest.mark.parametrize('name', ['timm_nf_regnet_b1', 'timm_nf_resnet50'])
def test_golden_logits(tmp_path, name):
  golden = helpers.golden()['timm'][f'{catalogue.timm_name(name)}@64']
  path = tmp_path / 'file'
  model = models.create_model(name)
  safetensors_numpy.save_file(filled.timm_tensors(model), path)
  params, _ = weights.load(path, name)
  logits = _logits(model, params, fill.image(2, 64))
  atol = helpers.RTOL_FRAMEWORK * golden['logits_std']
  np.testing.assert_allclose(logits[:, :8], golden['logits'], atol=atol)


@pytest.mark.slow
def test_golden_logits_of_dm_nfnet_need_refit_and_erf(tmp_path):
  golden = helpers.golden()['timm']['dm_nfnet_f0@64']
  path = tmp_path / 'file'
  model = models.create_model('nfnet_f0')
  safetensors_numpy.save_file(filled.timm_tensors(model), path)
  atol = helpers.RTOL_FRAMEWORK * golden['logits_std']
  loaded = weights.load_model(path, refit=True)
  assert loaded.model.config.activation == 'gelu_erf'
  logits = _logits(loaded.model, loaded.params, fill.image(2, 64))
  np.testing.assert_allclose(logits[:, :8], golden['logits'], atol=atol)
  params, _ = weights.load(path, 'nfnet_f0')
  logits = _logits(model, params, fill.image(2, 64))
  assert np.abs(logits[:, :8] - golden['logits']).max() > 100 * atol


def test_refit_yields_timms_filters(tmp_path):
  """Compares both directions with our model that uses timm's epsilon."""
  path = tmp_path / 'file'
  tiny.save(path, 'timm')
  params, _ = weights.load(path, tiny.NAME, refit=True, **tiny.OPTIONS)
  images = fill.image(2, 64)
  ours = models.create_model(tiny.NAME, **tiny.OPTIONS)
  theirs = models.create_model(tiny.NAME, **tiny.OPTIONS, ws_epsilon='additive')
  wanted = _logits(theirs, tiny.params(), images)
  found = _logits(ours, params, images)
  np.testing.assert_allclose(found, wanted, atol=1e-5 * wanted.std())

  weights.save(path, params, {}, tiny.NAME, 'timm', refit=True, **tiny.OPTIONS)
  back, _ = weights.load(path, tiny.NAME, **tiny.OPTIONS)
  for key, value in tree.flatten(tiny.params()).items():
    np.testing.assert_allclose(
      tree.flatten(back)[key], value, rtol=helpers.RTOL_ELEMENTWISE
    )


def test_refit_requires_a_file_from_timm(tmp_path):
  path = tmp_path / 'file'
  tiny.save(path)
  with pytest.raises(errors.UserError, match='refit=True requires a file'):
    weights.load(path, tiny.NAME, refit=True)


def test_refuses_networks_that_timm_lacks(tmp_path):
  # timm's nf_regnet_b0 computes something different.
  params = filled.params(models.create_model('nf_regnet_b0'))
  with pytest.raises(errors.UserError, match='timm has no such network'):
    weights.save(tmp_path / 'file', params, {}, 'nf_regnet_b0', layout='timm')
  assert not list(tmp_path.iterdir())


def test_refuses_a_stem_that_timm_lacks(tmp_path):
  params = tiny.params(stem='small')
  options = {**tiny.OPTIONS, 'stem': 'small'}
  with pytest.raises(errors.UserError, match="the stem 'small'"):
    weights.save(
      tmp_path / 'file', params, {}, tiny.NAME, layout='timm', **options
    )
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize('name', _NAMES)
def test_timm_loads_saved_files(tmp_path, name):
  timm_lib = helpers.timm()
  import torch

  if catalogue.ROWS[name].parameters > 150e6:
    pytest.skip('too large; the smaller networks cover it')
  from safetensors import torch as safetensors_torch

  path = tmp_path / 'file'
  params = filled.params(models.create_model(name))
  weights.save(path, params, {}, name, layout='timm')
  with torch.device('meta'):
    net = timm_lib.create_model(catalogue.timm_name(name))
  tensors = safetensors_torch.load_file(path)
  net.load_state_dict(tensors, strict=True, assign=True)
  back = {k: v.numpy() for k, v in net.state_dict().items()}
  safetensors_numpy.save_file(back, tmp_path / 'back')
  params, _ = weights.load(tmp_path / 'back', name)
  wanted = tree.flatten(weights.load(path, name)[0])
  for key, value in tree.flatten(params).items():
    assert value.tobytes() == wanted[key].tobytes()
