"""Folded networks compute the same as the original ones."""

import chex
import jax
import numpy as np
import pytest

from nfnets import errors, models
from nfnets.layers import convolution
from nfnets.models import folding
from tests import filled
from tests.golden import fill

# Fractions of the standard deviation, as in the docstring of `fold`.
TOLERANCE = {'logits': 1e-5}
ENDPOINT_TOLERANCE = 2e-5
# The order of sums differs between compiled programs.
FILTER_TOLERANCE = 1e-6
SMALL = {
  'widths': (256, 512),
  'width': 0.125,
  'depth': (1, 2),
  'group_size': 16,
}
CASES = {
  'nfnet': ('nfnet_f0', SMALL),
  'backbone': ('nfnet_f0', {**SMALL, 'num_classes': 0}),
  'timm': ('test_nfnet', {}),
  'resnet': (
    'nf_resnet50',
    {'widths': (64, 128), 'depth': (1, 1), 'width': 0.25},
  ),
}


@pytest.mark.parametrize('case', CASES)
def test_logits_and_endpoints_are_unchanged(case):
  name, options = CASES[case]
  model = models.create_model(name, **options)
  params = filled.params(model)
  folded_model = models.create_model(name, **options, folded=True)
  folded = folding.fold(params, model.config)
  assert jax.tree.map(np.shape, folded) == jax.tree.map(
    lambda leaf: leaf.shape, filled.shapes(folded_model)
  )
  assert not any('gain' in values for values in folded.values())
  wanted = _outputs(model, params)
  found = _outputs(folded_model, folded)
  assert wanted.keys() == found.keys()
  for key, value in wanted.items():
    error = np.abs(found[key] - value).max() / value.std()
    assert error < TOLERANCE.get(key, ENDPOINT_TOLERANCE), (key, error)


def _outputs(model, params):
  apply = jax.jit(model.apply, static_argnums=4)
  with convolution.lowering('plain'):
    (logits, endpoints), _ = apply(params, {}, None, fill.image(2, 48), False)
  return {'logits': np.asarray(logits)} | {
    key: np.asarray(value) for key, value in endpoints.items()
  }


def test_networks_that_cannot_be_folded():
  model = models.create_model('nfnet_f0', **SMALL, folded=True)
  with pytest.raises(errors.UserError, match='nfnet_f0 is already folded'):
    folding.fold(filled.shapes(model), model.config)
  model = models.create_model('resnet50')
  with pytest.raises(errors.UserError, match='no standardized convolution'):
    folding.fold(filled.shapes(model), model.config)


def test_for_inference():
  model = models.create_model('nfnet_f0', **SMALL)
  params = filled.params(model)
  folded_model, folded = models.for_inference(model, params)
  assert folded_model.config.folded
  expected = folding.fold(params, model.config)
  chex.assert_trees_all_close(folded, expected, atol=FILTER_TOLERANCE)
  # Nothing is left to fold.
  again_model, again = models.for_inference(folded_model, folded)
  assert again_model is folded_model and again is folded
