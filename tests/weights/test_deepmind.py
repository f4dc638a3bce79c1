import hashlib
import pickle

import numpy as np
import pytest

from nfnets import errors
from nfnets.models import catalogue
from nfnets.weights import deepmind

_PARAMS = {
  'net/~/conv': {
    'w': np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    'b': np.zeros(3, np.float32),
  },
}
_STATE = {'net/~/norm': {'mean': np.ones(3, np.float32)}}


def test_written_files_are_plain_pickles(tmp_path):
  path = tmp_path / 'file'
  deepmind.write(path, _PARAMS, {})
  found = pickle.loads(path.read_bytes())
  np.testing.assert_array_equal(
    found['net/~/conv']['w'], _PARAMS['net/~/conv']['w']
  )
  assert found['net/~/conv']['w'].flags.c_contiguous


def test_round_trip_of_parameters_and_state(tmp_path):
  path = tmp_path / 'file'
  deepmind.write(path, _PARAMS, _STATE)
  trees = deepmind.read(path, None)
  assert trees.params.keys() == {'net/~/conv/w', 'net/~/conv/b'}
  assert trees.state.keys() == {'net/~/norm/mean'}
  np.testing.assert_array_equal(trees.state['net/~/norm/mean'], 1)


@pytest.mark.parametrize(
  'value', [_PARAMS, (_PARAMS, {}), [_PARAMS, {}]], ids=['dict', 'pair', 'list']
)
def test_reads_any_pickle_of_a_haiku_tree(tmp_path, value):
  path = tmp_path / 'file'
  path.write_bytes(pickle.dumps(value))
  trees = deepmind.read(path, None)
  assert trees.params.keys() == {'net/~/conv/w', 'net/~/conv/b'}
  assert trees.state == {}


@pytest.mark.parametrize(
  'value',
  [[1], {'a': 1}, {'a': {'w': 1}}, 'text', (_PARAMS, {}, {}), (_PARAMS, 1)],
)
def test_refuses_other_pickles(tmp_path, value):
  path = tmp_path / 'file'
  path.write_bytes(pickle.dumps(value))
  with pytest.raises(errors.UserError, match='does not hold parameters'):
    deepmind.read(path, None)


def test_any_changed_byte_is_detected(tmp_path):
  path = tmp_path / 'file'
  deepmind.write(path, _PARAMS, _STATE)
  data = path.read_bytes()
  for index in (len(data) // 3, len(data) - 1):
    path.write_bytes(data[:index] + b'\xff' + data[index + 1 :])
    with pytest.raises(errors.UserError, match='SHA-256'):
      deepmind.read(path, None)


def test_warns_if_the_md5_is_not_the_published_one(
  tmp_path, monkeypatch, caplog
):
  path = tmp_path / 'file'
  path.write_bytes(pickle.dumps(_PARAMS))
  deepmind.read(path, 'nfnet_f0')
  md5 = hashlib.md5(path.read_bytes()).hexdigest()
  published = catalogue.PUBLISHED['nfnet_f0']
  assert md5 in caplog.text
  assert published.file.md5 in caplog.text
  caplog.clear()
  for unpublished in ('nfnet_f7', 'nfnet_l0', None):
    deepmind.read(path, unpublished)
  matching = published._replace(file=catalogue.DeepMindFile('file', md5))
  monkeypatch.setitem(catalogue.PUBLISHED, 'nfnet_f0', matching)
  deepmind.read(path, 'nfnet_f0')
  assert not caplog.text


def test_files_with_a_digest_need_no_md5(tmp_path, caplog):
  path = tmp_path / 'file'
  deepmind.write(path, _PARAMS, {})
  deepmind.read(path, 'nfnet_f0')
  assert not caplog.text
