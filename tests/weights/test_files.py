"""Files of tensors: recognized by content, complete or refused."""

import json
import os
import socket
import struct

import numpy as np
import pytest
import safetensors
from safetensors import numpy as safetensors_numpy

from nfnets import errors
from nfnets.weights import files, safe_pickle

_TENSORS = {
  'c': np.arange(6, dtype=np.float32).reshape(2, 3),
  'fortran': np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
  'strided': np.arange(12.0)[::2],
  'scalar': np.array(2.5, np.float32),
  'empty': np.zeros((0, 4), np.int32),
}


def test_round_trip_of_any_memory_order(tmp_path):
  path = tmp_path / 'file'
  files.write_safetensors(path, _TENSORS, {'key': 'é'})
  contents = files.read_safetensors(path)
  assert contents.metadata == {'key': 'é'}
  assert contents.verified
  assert contents.tensors.keys() == _TENSORS.keys()
  for name, array in _TENSORS.items():
    found = contents.tensors[name]
    assert found.dtype == array.dtype and found.shape == array.shape
    np.testing.assert_array_equal(found, array)
    assert found.flags.c_contiguous
  # safetensors itself reads the file, too.
  with safetensors.safe_open(path, 'np') as file:
    np.testing.assert_array_equal(
      file.get_tensor('fortran'), _TENSORS['fortran']
    )


def test_kind_depends_on_content_only(tmp_path):
  path = tmp_path / 'weights.npz'
  files.write_safetensors(path, _TENSORS, {})
  assert files.kind(path) == 'safetensors'
  path.write_bytes(b'\x80\x04}.')
  assert files.kind(path) == 'pickle'
  assert files.kind(tmp_path) == 'directory'


@pytest.mark.parametrize(
  ('data', 'message'),
  [(b'', 'empty'), (b'PK\x03\x04rest', 'safetensors.torch.save_file')],
)
def test_refuses_files_without_weights(tmp_path, data, message):
  path = tmp_path / 'file'
  path.write_bytes(data)
  with pytest.raises(errors.UserError, match=message):
    files.kind(path)


def test_missing_file(tmp_path):
  with pytest.raises(errors.UserError, match='no such file'):
    files.kind(tmp_path / 'none')


def test_detects_changed_values(tmp_path):
  path = tmp_path / 'file'
  files.write_safetensors(path, _TENSORS, {'key': 'value'})
  data = path.read_bytes()
  for old, new in ((b'value', b'valve'), (data[-1:], b'\x7f')):
    index = data.rindex(old)
    path.write_bytes(data[:index] + new + data[index + len(old) :])
    with pytest.raises(errors.UserError, match='SHA-256'):
      files.read_safetensors(path)


@pytest.mark.parametrize(
  'header',
  [
    {'a': {'dtype': 'F32', 'shape': [2**40, 2**40], 'data_offsets': [0, 8]}},
    {'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 2**62]}},
    {'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [8, 0]}},
    {'a': {'dtype': 'X', 'shape': [2], 'data_offsets': [0, 8]}},
    {'a': {'dtype': 'F8_E4M3', 'shape': [9], 'data_offsets': [0, 9]}},
    {'a': 7},
  ],
)
def test_refuses_damaged_headers(tmp_path, header):
  text = json.dumps(header).encode()
  path = tmp_path / 'file'
  path.write_bytes(struct.pack('<Q', len(text)) + text + bytes(8))
  with pytest.raises(
    errors.UserError, match='not a readable safetensors'
  ) as raised:
    files.read_safetensors(path)
  assert '\n' not in str(raised.value)


def test_missing_folder(tmp_path):
  with pytest.raises(errors.UserError, match='cannot be written'):
    files.write_safetensors(tmp_path / 'none' / 'file', _TENSORS, {})


def test_files_of_others_are_not_verified(tmp_path):
  path = tmp_path / 'file'
  safetensors_numpy.save_file({'a': np.ones(2)}, path)
  assert not files.read_safetensors(path).verified


@pytest.mark.parametrize('what', ['pipe', 'socket', 'device'])
def test_only_regular_files_are_opened(tmp_path, what):
  path = tmp_path / 'weights'
  if what == 'pipe':
    os.mkfifo(path)
  elif what == 'socket':
    with socket.socket(socket.AF_UNIX) as server:
      server.bind(str(path))
  else:
    path.symlink_to(os.devnull)
  with pytest.raises(errors.UserError, match='not a regular file'):
    files.kind(path)
  with pytest.raises(errors.UserError, match='not a regular file'):
    safe_pickle.load(path)
