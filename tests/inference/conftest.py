"""A weights file of a small network, quick to compile."""

import pytest

from nfnets.layers import convolution
from tests.weights import tiny


@pytest.fixture(autouse=True)
def _quick_to_compile():
  with convolution.lowering('plain'):
    yield


@pytest.fixture(scope='module')
def weights_file(tmp_path_factory):
  path = tmp_path_factory.mktemp('weights') / 'file'
  tiny.save(path, class_names=[f'name {i}' for i in range(10)])
  return path
