import doctest

import jax
import numpy as np
import pytest

import nfnets
from nfnets import errors, models
from nfnets.layers import convolution
from nfnets.models import registry


@pytest.mark.parametrize('function', [models.create_model, models.list_models])
def test_examples_in_docstrings(function):
  (test,) = doctest.DocTestFinder(recurse=False).find(function, globs={})
  assert test.examples
  # XLA's own convolutions compile fastest.
  with convolution.lowering('plain'):
    results = doctest.DocTestRunner().run(test)
  assert results.failed == 0


def test_functions_of_the_package_root():
  assert nfnets.create_model is registry.create_model
  assert nfnets.list_models is registry.list_models


def test_names_are_unique_and_in_the_configs():
  names = models.list_models()
  assert len(set(names)) == len(names)
  for name in names:
    assert models.create_model(name).config.name == name


@pytest.mark.parametrize(
  ('name', 'overrides', 'message'),
  [
    ('nfnet_f8', {}, "'nfnet_f8', did you mean 'nfnet_f"),
    ('nfnet_F0', {}, "'nfnet_F0', did you mean 'nfnet_f0'"),
    ('NF_ResNet50', {}, "'NF_ResNet50', did you mean 'nf_resnet50'"),
    ('nfnet_f0', {'withd': 0.5}, "'withd', did you mean 'width'"),
    ('nfnet_f0', {'family': 'mine'}, "no option 'family'"),
    ('nfnet_f0', {'activation': 'swish'}, "'swish'"),
    ('nfnet_f0', {'num_classes': -1}, 'num_classes is -1'),
    ('nfnet_f0', {'width': 0.25}, '32 channels.*group of 128'),
  ],
)
def test_impossible_models_are_errors_before_tracing(name, overrides, message):
  with pytest.raises(errors.UserError, match=message):
    models.create_model(name, **overrides)


def test_overrides_reach_the_config():
  config = models.create_model(
    'nfnet_f1', num_classes=7, depth=[1, 1, 1, 1], alpha=0.3
  ).config
  assert (config.num_classes, config.depth) == (7, (1, 1, 1, 1))
  assert (config.alpha, config.drop_rate) == (0.3, 0.3)


@pytest.mark.parametrize(
  ('shape', 'dtype', 'message'),
  [
    ((2, 3, 32, 32), 'float32', r'\(2, 3, 32, 32\).*channels last'),
    ((2, 32, 32, 1), 'float32', r'\(2, 32, 32, 1\)'),
    ((32, 32, 3), 'float32', r'\(32, 32, 3\)'),
    ((0, 32, 32, 3), 'float32', r'\(0, 32, 32, 3\).*at least one image'),
    ((2, 0, 32, 3), 'float32', r'\(2, 0, 32, 3\)'),
    ((2, 32, 32, 3), 'uint8', 'dtype uint8.*preprocess.normalize'),
  ],
)
@pytest.mark.parametrize('name', ['nf_resnet50', 'resnet50'])
def test_impossible_images_are_errors(name, shape, dtype, message):
  model = models.create_model(name, num_classes=10)
  images = np.ones(shape, dtype)
  with pytest.raises(ValueError, match=message):
    model.init(jax.random.key(0), images)
  with pytest.raises(ValueError, match=message):
    model.apply({}, {}, None, images, False)
