"""Masks for the parameter names of every family."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.extend import core

from nfnets import models
from nfnets.layers import convolution
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


DEPTH = (1, 2, 1, 2)


def family_members() -> list[str]:
  """The first model of every kind of names: family, stem, last layers, ..."""
  kinds: dict[tuple, str] = {}
  for name in models.list_models():
    x = models.create_model(name).config
    kind = (x.family, x.block_name, x.stem, x.extra_conv, x.final_width > 0)
    kinds.setdefault((*kind, x.se_ratio > 0, x.eca, x.skip_gain), name)
  return list(kinds.values())


@functools.cache
def shapes(name: str, **options) -> tuple:
  model = models.create_model(name, 10, depth=DEPTH, **options)
  images = jax.ShapeDtypeStruct((1, 64, 64, 3), 'float32')
  return jax.eval_shape(model.init, jax.random.key(0), images)


def by_name(tree: dict) -> dict[str, int]:
  """{'nf_block/~/conv0/w': value}."""
  flat, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    '/'.join(key.key for key in path).partition('/')[2].removeprefix('~/'): x
    for path, x in flat
  }


def check_layers(params: dict) -> None:
  layers = by_name(masks.layers_above(params))
  for name, layer in layers.items():
    part = name.partition('/')[0]
    if 'block' in part:
      number = part.rpartition('_')[2]
      assert layer == 6 - (int(number) if number.isdigit() else 0), name
    elif part == 'linear':
      assert layer == 0
    else:
      first = part.startswith(('stem_conv', 'initial_', 'bias1'))
      assert layer == (7 if first else 1), name
  assert set(layers.values()) == set(range(8))
  ends = (1, 3, 4, 6)  # blocks up to the end of each stage
  for frozen in range(7):
    trained = by_name(masks.trained_mask(params, frozen, DEPTH))
    for name, layer in layers.items():
      limit = 8 if frozen == 0 else 7 - ([0, *ends][min(frozen, 5) - 1])
      is_last = name.startswith(('final_', 'bias2'))
      expected = layer < limit or is_last
      if frozen == 6:
        expected = layer == 0
      assert trained[name] == expected, (frozen, name)


@pytest.mark.parametrize('name', family_members())
def test_every_parameter_of_every_family_has_a_layer_and_a_part(name):
  check_layers(shapes(name)[0])


def test_version_1_of_the_batch_norm_baseline_has_them_too():
  check_layers(shapes('resnet50', preactivation=False)[0])


def test_unknown_parts_are_errors():
  params = tree(['NFNet/~/adapter/w', 'NFNet/~/linear/w'])
  with pytest.raises(ValueError, match='NFNet/adapter/w is neither'):
    masks.layers_above(params)
  with pytest.raises(ValueError, match='NFNet/adapter/w is neither'):
    masks.trained_mask(params, 1, DEPTH)


def reached(jaxpr) -> list[bool]:
  """Whether each result of a program depends on its arguments."""
  known = set(jaxpr.invars)
  for equation in jaxpr.eqns:
    if any(isinstance(x, core.Var) and x in known for x in equation.invars):
      known.update(equation.outvars)
  return [isinstance(x, core.Var) and x in known for x in jaxpr.outvars]


@pytest.mark.parametrize(
  'name, frozen',
  [
    ('nfnet_f0', 0),
    ('nfnet_f0', 1),
    ('nf_regnet_b0', 2),
    ('nf_resnet50', 3),
    ('resnet50', 4),
    ('nfnet_f0', 5),
    ('fixup_resnet50', 5),
    ('resnet50', 6),
    ('fixup_resnet50', 6),
  ],
)
def test_what_is_trained_is_what_has_a_gradient(name, frozen):
  model = models.create_model(name, 10, depth=DEPTH, stochdepth_rate=0.0)
  model = models.frozen(model, frozen)
  params, state = shapes(name)

  def loss(params, state, images):
    key = jax.random.key(0)
    (logits, _), new = model.apply(params, state, key, images, True)
    return jnp.sum(logits**2), new

  images = jax.ShapeDtypeStruct((2, 64, 64, 3), 'float32')
  with convolution.lowering('plain'):
    program = jax.make_jaxpr(jax.grad(loss, has_aux=True))
    found = reached(program(params, state, images).jaxpr)
  trained = jax.tree.leaves(masks.trained_mask(params, frozen, DEPTH))
  assert found[: len(trained)] == trained
