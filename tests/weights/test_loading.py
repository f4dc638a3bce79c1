"""Weights from files: what is loaded, and what is said when nothing is."""

import hashlib
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest

from nfnets import errors, models, weights
from nfnets.weights import deepmind, loading, sources, tree
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


@pytest.mark.parametrize('make', [dict, lambda flat: (flat, {})])
def test_pickles_of_haiku(tmp_path, make):
  path = tmp_path / 'file'
  path.write_bytes(pickle.dumps(make(tiny.params())))
  params, _ = weights.load(path, tiny.NAME, **tiny.OPTIONS)
  _assert_equal(params, tiny.params())


@pytest.mark.parametrize('value', [[1], {'a': 1}, {'a': {'w': 1}}, 'text'])
def test_pickles_of_something_else(tmp_path, value):
  path = tmp_path / 'file'
  path.write_bytes(pickle.dumps(value))
  with pytest.raises(errors.UserError, match='holds no parameters'):
    weights.load(path, tiny.NAME)


def test_md5_is_compared_with_the_published_one(tmp_path, monkeypatch, caplog):
  path = tmp_path / 'file'
  path.write_bytes(pickle.dumps(tiny.params()))
  weights.load(path, tiny.NAME, **tiny.OPTIONS)
  md5 = hashlib.md5(path.read_bytes()).hexdigest()
  assert md5 in caplog.text
  assert deepmind.PUBLISHED_MD5['nfnet_f0'] in caplog.text
  caplog.clear()
  monkeypatch.setitem(deepmind.PUBLISHED_MD5, tiny.NAME, md5)
  weights.load(path, tiny.NAME, **tiny.OPTIONS)
  assert not caplog.text


def test_own_file_tells_its_settings(tmp_path):
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


def test_settings_that_change_the_network_must_agree(tmp_path):
  path = tmp_path / 'file'
  tiny.save(path)
  with pytest.raises(errors.UserError, match="activation='gelu'.*'silu'"):
    weights.load(path, tiny.NAME, activation='silu')
  weights.load(path, tiny.NAME, drop_rate=0.5)


@pytest.mark.parametrize('layout', ('deepmind', 'timm'))
def test_default_class_names_and_preset(tmp_path, layout):
  path = tmp_path / 'file'
  tiny.save(path, layout)
  loaded = weights.load_model(path, tiny.NAME, **tiny.OPTIONS)
  assert loaded.class_names[9] == 'class 9'
  assert loaded.eval_preset == 'deepmind'


@pytest.mark.parametrize('layout', _LAYOUTS)
def test_head_of_another_size(tmp_path, layout):
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


def test_head_that_save_was_not_told_of(tmp_path):
  path = tmp_path / 'file'
  body = {k: v for k, v in tiny.OPTIONS.items() if k != 'num_classes'}
  weights.save(path, tiny.params(), {}, tiny.NAME, **body)
  with pytest.raises(errors.UserError, match='num_classes=10 keeps it'):
    weights.load(path, tiny.NAME)
  weights.load(path, tiny.NAME, num_classes=10)
  assert weights.load_model(path).model.config.num_classes == 10


def test_backbone(tmp_path):
  path = tmp_path / 'file'
  tiny.save(path, num_classes=0)
  assert _HEAD not in weights.load(path, tiny.NAME)[0]
  with pytest.raises(errors.UserError, match=f'missing: {_HEAD}/b'):
    weights.load(path, tiny.NAME, num_classes=10)
  params, _ = weights.load(path, tiny.NAME, reset_head=True, num_classes=3)
  assert params[_HEAD]['w'].shape == (384, 3)


def test_missing_surplus_and_misshapen(tmp_path):
  path = tmp_path / 'file'
  params = tiny.params()
  block = params['NFNet/~/nf_block/~/conv0']
  params['NFNet/~/more'] = {'w': np.ones(3, np.float32)}
  block['gain'] = block['gain'][:-1]
  del block['bias']
  path.write_bytes(pickle.dumps(params))
  with pytest.raises(errors.UserError) as raised:
    weights.load(path, tiny.NAME, **tiny.OPTIONS)
  message = str(raised.value)
  assert 'NFNet/~/nf_block/~/conv0/gain is [15] in the file and [16]' in message
  assert '1 missing: NFNet/~/nf_block/~/conv0/bias [16]' in message
  assert '1 surplus: NFNet/~/more/w [3]' in message
  assert '\n' not in message


def test_file_of_another_model_says_which(tmp_path):
  path = tmp_path / 'file'
  shapes = tree.expected(models.create_model('nfnet_f1').config).params
  # Broadcast: no memory, and a pickle of a few kilobytes cannot hold them.
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
  with pytest.raises(errors.UserError, match='does not tell which model'):
    tiny.save(path, 'deepmind')
    weights.load_model(path)


def test_unknown_model_and_layout(tmp_path):
  path = tmp_path / 'file'
  tiny.save(path)
  with pytest.raises(errors.UserError, match='nfnet_g0'):
    weights.load(path, 'nfnet_g0')
  with pytest.raises(errors.UserError, match="layout is 'npz'"):
    tiny.save(path, 'npz')


def test_save_checks_the_parameters(tmp_path):
  params = tiny.params()
  del params['NFNet/~/stem_conv0']
  with pytest.raises(
    errors.UserError, match='missing: NFNet/~/stem_conv0/bias'
  ):
    weights.save(tmp_path / 'file', params, {}, tiny.NAME, **tiny.OPTIONS)
  assert not list(tmp_path.iterdir())


def test_directory_and_hub(tmp_path, monkeypatch):
  monkeypatch.setenv('HF_HUB_OFFLINE', '1')
  with pytest.raises(errors.UserError, match='nfnets.convert'):
    weights.load(tmp_path, tiny.NAME)
  with pytest.raises(errors.UserError, match='no such file'):
    weights.load('somewhere/weights', tiny.NAME)


def test_load_for_a_model_that_is_made(tmp_path):
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
  """Each ends in one line or, where it changed nothing, the right weights."""
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
  """One to three changes, half of them where the structure is."""
  mutated = bytearray(data)
  for _ in range(rng.choice((1, 1, 2, 3))):
    place = rng.randrange(min(len(mutated), 5000 if in_header else len(data)))
    what = rng.random()
    if what < 0.6:
      mutated[place] ^= 1 << rng.randrange(8)
    elif what < 0.8:
      mutated[place : place + rng.randrange(20)] = rng.randbytes(
        rng.randrange(20)
      )
    else:
      del mutated[place + 1 :]
  return bytes(mutated)


def test_hostile_pickle_runs_nothing_in_load_and_convert(tmp_path):
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
