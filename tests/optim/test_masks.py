"""Masks for the parameter names of every family."""

import jax
import pytest

from nfnets.optim import masks
from tests import helpers

NAMES = {
  model: [line.split(' ')[0] for line in entry['names']]
  for model, entry in helpers.golden()['reference'].items()
}


def tree(paths: list[str]) -> dict:
  """Builds a tree {module: {name: path}} from Haiku paths."""
  params: dict = {}
  for path in paths:
    module, name = path.rsplit('/', 1)
    params.setdefault(module, {})[name] = path
  return params


def selected(mask_fn, paths: list[str]) -> set[str]:
  params = tree(paths)
  pairs = zip(
    jax.tree.leaves(params), jax.tree.leaves(mask_fn(params)), strict=True
  )
  return {path for path, keep in pairs if keep}


@pytest.mark.parametrize('model', NAMES)
def test_reference_trees(model):
  paths = NAMES[model]
  root = paths[0].split('/')[0]
  head = f'{root}/~/linear'
  weights = {path for path in paths if path.endswith('/w')}
  assert selected(masks.decay_mask, paths) == weights
  assert selected(masks.head_mask, paths) == {f'{head}/w', f'{head}/b'}
  assert set(paths) - selected(masks.clip_mask, paths) == {f'{head}/w'}


def test_f0_has_57_convolutions_24_excite_layers_and_a_classifier():
  assert len(selected(masks.decay_mask, NAMES['NFNet-F0'])) == 57 + 24 + 1


def test_batch_normalization_and_skipinit_names():
  paths = [
    'ResNet/~/res_block_v2/~/bn0/scale',
    'ResNet/~/res_block_v2/~/bn0/offset',
    'ResNet/~/res_block_v2/~/conv0/w',
    'SkipInit_ResNet/~/nf_res_block/skip_gain',
    'SkipInit_ResNet/~/nf_res_block_1/~/conv1/b',
  ]
  assert selected(masks.decay_mask, paths) == {paths[2]}
  assert selected(masks.clip_mask, paths) == set(paths)
  assert selected(masks.head_mask, paths) == set()


def test_fixup_scalars_and_eca_kernels():
  scalars = [
    'Fixup_ResNet/bias1',
    'Fixup_ResNet/~/res_block/bias1a',
    'Fixup_ResNet/~/res_block/bias3b',
    'Fixup_ResNet/~/res_block/scale',
  ]
  kernel = 'NFNet/~/nf_block/~/eca/~/conv1_d/w'
  assert selected(masks.decay_mask, [*scalars, kernel]) == {kernel}


def test_an_excite_layer_at_the_root_is_not_the_classifier():
  paths = ['NFNet/~/squeeze_excite/~/linear/w', 'NFNet/~/linear_1/w']
  assert selected(masks.head_mask, paths) == set()
  assert selected(masks.clip_mask, paths) == set(paths)
