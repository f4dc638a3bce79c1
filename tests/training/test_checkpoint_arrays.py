import json
import logging
import shutil

import numpy as np
import pytest

from nfnets.training import checkpoint_arrays, manifest
from tests import helpers

# Written by an earlier version, see golden/README.md.
STORED = helpers.GOLDEN / 'checkpoint' / '3'


@pytest.fixture
def path(tmp_path):
  return shutil.copytree(STORED, tmp_path / '3')


@pytest.fixture
def leaves():
  text = (STORED / 'manifest' / 'metadata').read_bytes()
  all_leaves = manifest.parse(text)['leaves']
  return {k: v for k, v in all_leaves.items() if k.startswith('params/')}


def test_reads_only_the_arrays_in_the_list(path, leaves):
  arrays = checkpoint_arrays.read(path, leaves)
  assert arrays.keys() == leaves.keys()
  for name, array in arrays.items():
    assert list(array.shape) == leaves[name]['shape']
    assert array.dtype == np.float32


def test_a_missing_array_is_damage(path, leaves):
  leaf = next(iter(leaves.values()))
  with pytest.raises(manifest.DamagedError, match='its arrays'):
    checkpoint_arrays.read(path, {'params/other': leaf})


def test_an_array_of_another_shape_is_not_read(path, leaves):
  name, leaf = next(iter(leaves.items()))
  with pytest.raises(manifest.DamagedError, match=f'{name} has shape'):
    checkpoint_arrays.read(path, {name: {**leaf, 'shape': [7, 7]}})


@pytest.mark.parametrize(
  'change', [{}, {'item_handlers': 3}, {'init_timestamp_nsecs': 'x'}]
)
def test_metadata_are_read_as_orbax_does(path, change):
  file = path / '_CHECKPOINT_METADATA'
  file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
  if not change:
    checkpoint_arrays.check_metadata(path)
    return
  with pytest.raises(ValueError, match='Object must be'):
    checkpoint_arrays.check_metadata(path)


def test_orbax_is_silent(path, leaves, caplog):
  shutil.rmtree(path / 'state' / 'd')
  with caplog.at_level(logging.INFO):
    with pytest.raises(manifest.DamagedError):
      checkpoint_arrays.read(path, leaves)
  assert not caplog.text
