import numpy as np
import pytest

from nfnets import errors, models
from nfnets.weights import tree
from tests.weights import tiny

_CONFIG = models.create_model(tiny.NAME, **tiny.OPTIONS).config


def _check(flat, stored_model=None, model=tiny.NAME):
  wanted = tree.expected(_CONFIG).params
  tree.check(flat, wanted, 'FILE', model, 'nfnets', stored_model)


def _message(flat, **options):
  with pytest.raises(errors.UserError) as raised:
    _check(flat, **options)
  message = str(raised.value)
  assert message.startswith(f'FILE: does not fit {tiny.NAME}: ')
  assert '\n' not in message
  return message


@pytest.fixture
def flat():
  return tree.flatten(tiny.params())


def test_flatten_and_unflatten_are_inverse():
  nested = {'b/~/c': {'w': 1, 'b': 2}, 'a': {'w': 3}}
  flat = {'b/~/c/w': 1, 'b/~/c/b': 2, 'a/w': 3}
  assert tree.flatten(nested) == flat
  assert tree.unflatten(flat) == nested
  assert list(tree.unflatten(flat)) == ['a', 'b/~/c']


def test_is_head():
  for path in ('NFNet/~/linear/w', 'ResNet/~/linear/b', 'head.fc.weight'):
    assert tree.is_head(path)
  for path in (
    'NFNet/~/nf_block/~/squeeze_excite/~/linear/w',
    'NFNet/~/linear_1/w',
    'stem.conv1.weight',
  ):
    assert not tree.is_head(path)


def test_options_rebuild_the_configuration():
  assert tree.options(models.create_model('nfnet_f0').config) == {}
  assert tree.options(_CONFIG) == tiny.OPTIONS
  model = models.create_model(tiny.NAME, **tree.options(_CONFIG))
  assert model.config == _CONFIG


def test_expected_names_shapes_and_dtypes():
  expected = tree.expected(_CONFIG)
  assert expected.state == {}
  stem = expected.params['NFNet/~/stem_conv0/w']
  assert (stem.shape, stem.dtype) == ((3, 3, 3, 16), np.float32)
  resnet = tree.expected(models.create_model('resnet50').config)
  assert resnet.state


def test_check_accepts_the_models_arrays(flat):
  _check(flat)


def test_check_lists_each_kind_of_fault(flat):
  conv = 'NFNet/~/nf_block/~/conv0'
  flat['NFNet/~/more/w'] = np.ones(3, np.float32)
  flat[f'{conv}/gain'] = flat[f'{conv}/gain'][:-1]
  del flat[f'{conv}/bias']
  message = _message(flat)
  assert (
    f'1 with the wrong shape: {conv}/gain is [15] in the file and [16] in the'
    ' model' in message
  )
  assert f'1 missing: {conv}/bias [16]' in message
  assert '1 unexpected: NFNet/~/more/w [3]' in message
  assert 'fits no model listed by python -m nfnets.models' in message


def test_check_shows_the_first_three(flat):
  message = _message({})
  first = sorted(flat)[:3]
  assert f'{len(flat)} missing: {first[0]} ' in message
  assert all(path in message for path in first)
  assert sorted(flat)[3] not in message
  assert ', ...' in message


def test_check_explains_a_different_classifier(flat):
  flat['NFNet/~/linear/w'] = np.ones((384, 7))
  flat['NFNet/~/linear/b'] = np.ones(7)
  assert (
    "pass num_classes=7 to keep the file's or reset_head=True for a new one"
    in _message(flat)
  )
  del flat['NFNet/~/linear/w'], flat['NFNet/~/linear/b']
  assert 'differ: pass reset_head=True for a new one' in _message(flat)


def test_check_names_the_model_that_fits(flat):
  assert 'the file fits nfnet_f3' in _message({}, stored_model='nfnet_f3')
  shapes = tree.expected(models.create_model('nf_regnet_b0').config).params
  assert 'the file fits nf_regnet_b0' in _message(_zeros(shapes))


def _zeros(shapes):
  """Arrays that share one element, so that they take no memory."""
  return {
    name: np.broadcast_to(np.float32(0), x.shape) for name, x in shapes.items()
  }


def test_num_classes(flat):
  assert tree.num_classes(flat) == 10
  assert tree.num_classes({'head.fc.bias': np.ones(5)}) == 5
  assert tree.num_classes({'NFNet/~/stem_conv0/bias': np.ones(5)}) == 0


def test_find_models_ignores_the_classifier():
  shapes = tree.expected(
    models.create_model('nf_resnet50', num_classes=7).config
  ).params
  assert tree.find_models(_zeros(shapes), 'nfnets') == ['nf_resnet50']
  # timm's network of the same name is another one.
  assert tree.find_models(_zeros(shapes), 'timm') == []
  assert tree.find_models({}, 'nfnets') == []
