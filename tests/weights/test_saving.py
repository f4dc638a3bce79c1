import pickle

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from nfnets import errors, models, weights
from nfnets.weights import files, tree
from tests import filled
from tests.weights import tiny

_HEAD = 'NFNet/~/linear'


def test_nfnets_layout_stores_everything(tmp_path):
  path = tmp_path / 'file'
  tiny.save(path, class_names=list('abcdefghij'), eval_preset='deepmind_crop')
  contents = files.read_safetensors(path)
  assert contents.verified
  assert contents.metadata['model'] == tiny.NAME
  assert contents.metadata['eval_preset'] == 'deepmind_crop'
  assert '"width": 0.125' in contents.metadata['options']
  assert '"j"' in contents.metadata['class_names']
  flat = tree.flatten(tiny.params())
  assert contents.tensors.keys() == {f'params/{path}' for path in flat}


def test_deepmind_layout_is_a_pickle_of_haiku(tmp_path):
  path = tmp_path / 'file'
  tiny.save(path, 'deepmind')
  found = pickle.loads(path.read_bytes())
  params = tiny.params()
  assert found.keys() == params.keys()
  np.testing.assert_array_equal(found[_HEAD]['w'], params[_HEAD]['w'])


def test_timm_layout_has_timms_names(tmp_path):
  path = tmp_path / 'file'
  tiny.save(path, 'timm')
  tensors = safetensors_numpy.load_file(path)
  params = tiny.params()
  assert len(tensors) == len(tree.flatten(params))
  np.testing.assert_array_equal(
    tensors['stem.conv1.weight'],
    params['NFNet/~/stem_conv0']['w'].transpose(3, 2, 0, 1),
  )
  np.testing.assert_array_equal(tensors['head.fc.weight'], params[_HEAD]['w'].T)


def test_batch_statistics_are_stored(tmp_path):
  path = tmp_path / 'file'
  options = {'width': 1 / 32, 'depth': (1, 1, 1, 1), 'num_classes': 3}
  params = filled.params(models.create_model('resnet50', **options))
  state = _state(options)
  weights.save(path, params, state, 'resnet50', **options)
  found_params, found_state = weights.load(path, 'resnet50')
  assert tree.flatten(found_params).keys() == tree.flatten(params).keys()
  for name, value in tree.flatten(state).items():
    np.testing.assert_array_equal(tree.flatten(found_state)[name], value)
  with pytest.raises(errors.UserError, match='^state: .*missing'):
    weights.save(path, params, {}, 'resnet50', **options)


def _state(options):
  config = models.create_model('resnet50', **options).config
  shapes = tree.expected(config).state
  assert shapes
  return tree.unflatten(
    {name: np.full(x.shape, 0.5, x.dtype) for name, x in shapes.items()}
  )


def test_refuses_parameters_of_another_model(tmp_path):
  params = tiny.params()
  del params['NFNet/~/stem_conv0']
  with pytest.raises(
    errors.UserError, match='missing: NFNet/~/stem_conv0/bias'
  ):
    weights.save(tmp_path / 'file', params, {}, tiny.NAME, **tiny.OPTIONS)
  assert not list(tmp_path.iterdir())


def test_unknown_layout(tmp_path):
  with pytest.raises(errors.UserError, match="layout is 'npz'"):
    tiny.save(tmp_path / 'file', 'npz')
  assert not list(tmp_path.iterdir())


def test_keeps_a_classifier_of_another_size(tmp_path):
  path = tmp_path / 'file'
  body = {k: v for k, v in tiny.OPTIONS.items() if k != 'num_classes'}
  weights.save(path, tiny.params(), {}, tiny.NAME, **body)
  with pytest.raises(errors.UserError, match='num_classes=10 to keep'):
    weights.load(path, tiny.NAME)
  weights.load(path, tiny.NAME, num_classes=10)
  assert weights.load_model(path).model.config.num_classes == 10


@pytest.mark.parametrize('names', [('cat',), tuple('abcdefghijk')])
def test_refuses_a_wrong_number_of_class_names(tmp_path, names):
  with pytest.raises(errors.UserError, match=f'^{len(names)} class .* of 10 '):
    tiny.save(tmp_path / 'file', class_names=names)
  assert not list(tmp_path.iterdir())
