"""Loading weights: the arrays, and the errors."""

import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from nfnets import errors, models, weights
from nfnets.weights import loading, sources, tree
from tests import filled
from tests.weights import tiny

_LAYOUTS = ('nfnets', 'deepmind', 'timm')
_HEAD = 'NFNet/~/linear'


def _assert_equal(found, wanted):
  found, wanted = tree.flatten(found), tree.flatten(wanted)
  assert found.keys() == wanted.keys()
  for path in wanted:
    assert found[path].dtype == np.float32
    assert found[path].shape == wanted[path].shape
    assert found[path].tobytes() == wanted[path].tobytes(), path


@pytest.mark.parametrize('layout', _LAYOUTS)
def test_round_trip_is_bitwise(tmp_path, layout):
  path = tmp_path / 'F0_haiku.npz'
  tiny.save(path, layout)
  params, state = weights.load(path, tiny.NAME, **tiny.OPTIONS)
  _assert_equal(params, tiny.params())
  assert state == {}


def test_file_of_our_own_stores_its_options(tmp_path):
  path = tmp_path / 'file'
  names = tuple('abcdefghij')
  tiny.save(path, class_names=names, eval_preset='timm', activation='silu')
  params, _ = weights.load(path, tiny.NAME)
  _assert_equal(params, tiny.params(activation='silu'))
  loaded = weights.load_model(path)
  wanted = models.create_model(
    tiny.NAME, **{**tiny.OPTIONS, 'activation': 'silu'}
  )
  assert loaded.model.config == wanted.config
  assert loaded.class_names == names
  assert loaded.eval_preset == 'timm'


def test_options_that_change_the_network_must_agree(tmp_path):
  path = tmp_path / 'file'
  tiny.save(path)
  with pytest.raises(errors.UserError, match="activation='gelu', but.*'silu'"):
    weights.load(path, tiny.NAME, activation='silu')
  weights.load(path, tiny.NAME, drop_rate=0.5)


@pytest.mark.parametrize('layout', ('deepmind', 'timm'))
def test_default_class_names_and_eval_preset(tmp_path, layout):
  path = tmp_path / 'file'
  tiny.save(path, layout)
  loaded = weights.load_model(path, tiny.NAME, **tiny.OPTIONS)
  assert loaded.class_names[9] == 'class 9'
  assert loaded.eval_preset == 'deepmind'


@pytest.mark.parametrize('layout', _LAYOUTS)
def test_classifier_of_another_size(tmp_path, layout):
  path = tmp_path / 'file'
  tiny.save(path, layout)
  options = {**tiny.OPTIONS, 'num_classes': 7}
  with pytest.raises(errors.UserError) as raised:
    weights.load(path, tiny.NAME, **options)
  message = str(raised.value)
  name = 'head.fc.weight' if layout == 'timm' else f'{_HEAD}/w'
  assert name in message
  assert '[384, 10]' in message or '[10, 384]' in message
  assert '[384, 7]' in message or '[7, 384]' in message
  assert 'num_classes=10' in message and 'reset_head=True' in message

  params, _ = weights.load(path, tiny.NAME, reset_head=True, **options)
  assert params[_HEAD]['w'].shape == (384, 7)
  assert 0.009 < params[_HEAD]['w'].std() < 0.011
  assert not params[_HEAD]['b'].any()
  wanted = tiny.params()
  del params[_HEAD], wanted[_HEAD]
  _assert_equal(params, wanted)


def test_backbone_without_classifier(tmp_path):
  path = tmp_path / 'file'
  tiny.save(path, num_classes=0)
  assert _HEAD not in weights.load(path, tiny.NAME)[0]
  with pytest.raises(errors.UserError, match=f'missing: {_HEAD}/b'):
    weights.load(path, tiny.NAME, num_classes=10)
  params, _ = weights.load(path, tiny.NAME, reset_head=True, num_classes=3)
  assert params[_HEAD]['w'].shape == (384, 3)


@pytest.mark.parametrize('layout', ['nfnets', 'deepmind', 'timm'])
def test_a_backbone_ignores_the_classifier_of_the_file(tmp_path, layout):
  path = tmp_path / 'file'
  tiny.save(path, layout)
  body = {k: v for k, v in tiny.OPTIONS.items() if k != 'num_classes'}
  params, _ = weights.load(path, tiny.NAME, num_classes=0, **body)
  whole = tiny.params()
  assert params.keys() == whole.keys() - {_HEAD}
  loaded = weights.load_model(path, tiny.NAME, num_classes=0, **body)
  assert loaded.model.config.num_classes == 0


@pytest.mark.parametrize(
  'prefix', ['module.', 'model.', '_orig_mod.', 'backbone.', 'model.module.']
)
def test_prefixes_of_wrappers_are_ignored(tmp_path, prefix):
  path = tmp_path / 'file'
  tiny.save(path, 'timm')
  tensors = safetensors_numpy.load_file(path)
  for names in (tensors, [k for k in tensors if 'head' not in k]):
    safetensors_numpy.save_file(
      {(prefix + k if k in names else k): x for k, x in tensors.items()}, path
    )
    _assert_equal(
      weights.load(path, tiny.NAME, **tiny.OPTIONS)[0], tiny.params()
    )


@pytest.mark.parametrize('layout', ['nfnets', 'deepmind', 'timm'])
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path, layout, value):
  path = tmp_path / 'file'
  params = tiny.params()
  params['NFNet/~/stem_conv1']['w'][0, 0, 0, 0] = value
  weights.save(path, params, {}, tiny.NAME, layout, **tiny.OPTIONS)
  with pytest.raises(
    errors.UserError, match='NFNet/~/stem_conv1/w holds numbers .* not finite'
  ):
    weights.load(path, tiny.NAME, **tiny.OPTIONS)


@pytest.mark.parametrize('dtype', [np.int8, np.uint8, np.int64, bool])
def test_numbers_of_another_kind_are_refused(tmp_path, dtype):
  path = tmp_path / 'file'
  tiny.save(path, 'timm')
  tensors = safetensors_numpy.load_file(path)
  tensors['stem.conv1.weight'] = tensors['stem.conv1.weight'].astype(dtype)
  safetensors_numpy.save_file(tensors, path)
  with pytest.raises(
    errors.UserError, match=f'stem_conv0/w holds {np.dtype(dtype)}, not float'
  ):
    weights.load(path, tiny.NAME, **tiny.OPTIONS)


def test_error_names_the_model_that_the_file_fits(tmp_path):
  path = tmp_path / 'file'
  shapes = tree.expected(models.create_model('nfnet_f1').config).params
  # Broadcast arrays take no memory. A file with them would be 500 MB.
  flat = {
    name: np.broadcast_to(np.float32(0), x.shape) for name, x in shapes.items()
  }
  source = sources.Source('FILE', 'deepmind', flat, {}, None)
  model = models.create_model('nfnet_f0')
  with pytest.raises(errors.UserError) as raised:
    loading.fit(source, model, reset_head=False)
  assert 'the file fits nfnet_f1' in str(raised.value)

  tiny.save(path)
  with pytest.raises(
    errors.UserError, match='missing: .*the file fits nfnet_f0'
  ):
    weights.load(path, 'nfnet_f1')


def test_model_must_be_known(tmp_path):
  path = tmp_path / 'file'
  tiny.save(path, 'deepmind')
  with pytest.raises(errors.UserError, match='does not specify its model'):
    weights.load_model(path)
  with pytest.raises(errors.UserError, match='nfnet_g0'):
    weights.load(path, 'nfnet_g0')


def test_file_of_another_model_of_equal_shapes(tmp_path):
  path = tmp_path / 'file'
  options = {'width': 1 / 32, 'depth': (1, 1, 1, 1), 'num_classes': 2}
  params = filled.params(models.create_model('nf_resnet50', **options))
  weights.save(path, params, {}, 'nf_resnet50', **options)
  with pytest.raises(
    errors.UserError, match='holds nf_resnet50, not nf_resnet101; load it as'
  ):
    weights.load(path, 'nf_resnet101', **options)


def test_load_for_an_existing_model(tmp_path):
  path = tmp_path / 'file'
  params = tiny.params(**tiny.OPTIONS)
  weights.save(path, params, {}, tiny.NAME, 'nfnets', **tiny.OPTIONS)
  model = models.create_model(tiny.NAME, **tiny.OPTIONS)
  found, _ = weights.load_for(path, model)
  _assert_equal(found, params)
  whole = models.create_model(tiny.NAME)
  with pytest.raises(errors.UserError, match='--config.model.width='):
    weights.load_for(path, whole, reset_head=True)


@pytest.mark.parametrize('layout', _LAYOUTS)
def test_a_thousand_mutations(tmp_path, layout):
  """Each is refused in one line, or changed nothing that matters."""
  path = tmp_path / 'file'
  options = {**tiny.OPTIONS, 'width': 1 / 32, 'group_size': 4}
  params = tiny.params(**options)
  weights.save(path, params, {}, tiny.NAME, layout, **options)
  data = path.read_bytes()
  rng = random.Random(layout)
  refused = 0
  for number in range(1000 // len(_LAYOUTS) + 1):
    path.write_bytes(_mutated(data, rng, number % 2 == 0))
    try:
      found, _ = weights.load(path, tiny.NAME, **options)
    except errors.UserError as error:
      refused += 1
      assert '\n' not in str(error)
    else:
      _assert_equal(found, params)
  assert refused > 300


def _mutated(data, rng, in_header):
  """Makes one to three changes, near the start of the file if `in_header`."""
  mutated = bytearray(data)
  for _ in range(rng.choice((1, 1, 2, 3))):
    index = rng.randrange(min(len(mutated), 5000 if in_header else len(data)))
    kind = rng.random()
    if kind < 0.6:
      mutated[index] ^= 1 << rng.randrange(8)
    elif kind < 0.8:
      mutated[index : index + rng.randrange(20)] = rng.randbytes(
        rng.randrange(20)
      )
    else:
      del mutated[index + 1 :]
  return bytes(mutated)


def test_load_and_convert_execute_nothing_in_a_pickle(tmp_path):
  class Payload:
    def __reduce__(self):
      return exec, (f'open({str(tmp_path / "executed")!r}, "w")',)

  path = tmp_path / 'F0_haiku.npz'
  path.write_bytes(pickle.dumps({'NFNet/~/linear': {'w': Payload()}}))
  with pytest.raises(errors.UserError, match='exec'):
    weights.load(path, 'nfnet_f0')
  with pytest.raises(errors.UserError, match='exec'):
    weights.load_model(path)
  command = ('-m', 'nfnets.convert', path, tmp_path / 'out', '--to=nfnets')
  done = subprocess.run(
    [sys.executable, *command], capture_output=True, text=True
  )
  assert done.returncode == 1
  assert 'exec' in done.stderr and 'Traceback' not in done.stderr
  assert list(tmp_path.iterdir()) == [path]
