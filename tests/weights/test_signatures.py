import bz2
import gzip
import io
import lzma
import pickle
import tarfile

import numpy as np
import pytest

from nfnets import errors
from nfnets.weights import files, signatures
from tests.data import pictures


def make_npz():
  buffer = io.BytesIO()
  np.savez(buffer, w=np.ones(3))
  return buffer.getvalue()


def make_tar():
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode='w') as archive:
    archive.addfile(tarfile.TarInfo('weights'))
  return buffer.getvalue()


POINTER = (
  b'version https://git-lfs.github.com/spec/v1\n'
  b'oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393'
  b'\nsize 285938576\n'
)
OTHERS = {
  'pointer': (POINTER, 'Git LFS pointer.*git lfs pull'),
  'page': (b'\n<!DOCTYPE html><html>', 'web page.*download again'),
  'old page': (b'<HTML><head><title>403', 'web page'),
  'xml': (b'<?xml version="1.0"?><Error><Code>AccessDenied', 'web page'),
  'index': (b'{"metadata": {}, "weight_map": {"a": "b"}}', 'several files'),
  'config': (b'{\n  "architecture": "dm_nfnet_f0"}', 'JSON file.*safetensors'),
  'npz': (make_npz(), 'archive of arrays'),
  'torch': (b'PK\x03\x04' + bytes(26) + b'archive/data.pkl', 'torch.save'),
  'old torch': (pickle.dumps(0x1950A86A20F9469CFC6C, 2), 'old torch.save'),
  'gzip': (gzip.compress(bytes(99)), 'compressed; unpack'),
  'bzip2': (bz2.compress(bytes(99)), 'compressed'),
  'xz': (lzma.compress(bytes(99)), 'compressed'),
  'zstd': (b'\x28\xb5\x2f\xfd' + bytes(99), 'compressed'),
  'tar': (make_tar(), 'tar archive; unpack'),
  'keras': (b'\x89HDF\r\n\x1a\n' + bytes(99), 'HDF5'),
  'image': (pictures.encode(pictures.photograph()), 'an image'),
}


@pytest.mark.parametrize('name', OTHERS)
def test_files_that_are_no_weights(tmp_path, name):
  data, message = OTHERS[name]
  path = tmp_path / 'weights.npz'
  path.write_bytes(data)
  with pytest.raises(errors.UserError, match=message) as raised:
    files.kind(path)
  assert str(path) in str(raised.value)


@pytest.mark.parametrize('length', [0x227B, 0x22207B, 0x5B7B])
def test_a_safetensors_header_of_any_length_is_none_of_them(tmp_path, length):
  """The length's bytes may look like the beginning of another file."""
  path = tmp_path / 'file'
  path.write_bytes(length.to_bytes(8, 'little') + b'{"a"')
  assert files.kind(path) == 'safetensors'


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_none_of_them(protocol):
  weights = {'m': {'w': np.ones(3, np.float32)}}
  assert signatures.describe(pickle.dumps(weights, protocol)) is None
