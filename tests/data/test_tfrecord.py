import os
import pickle
import struct

import numpy as np
import pytest

from nfnets import errors, files
from nfnets.data import tfrecord
from tests.data import records

CONTENT = [b'first', b'', b'third' * 1000, b'4']


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'x.tfrecord'
  offsets = records.write_tfrecords(path, CONTENT)
  return path, offsets


def test_checksum_is_masked_crc32c():
  # RFC 3720, B.4: CRC-32C of 32 zero bytes is 0x8a9136aa.
  rotated = ((0x8A9136AA >> 15) | (0x8A9136AA << 17)) + 0xA282EAD8
  assert tfrecord.masked_crc(bytes(32)) == rotated & 0xFFFFFFFF


def test_random_access_across_files(tmp_path):
  paths = [tmp_path / name for name in 'abc']
  for path, part in zip(paths, (CONTENT, [], CONTENT[::-1]), strict=True):
    records.write_tfrecords(path, part)
  files = tfrecord.RecordFiles(paths)
  assert files.counts.tolist() == [4, 0, 4]
  assert [files[i] for i in range(8)] == CONTENT + CONTENT[::-1]
  assert files[6] == b''
  copy = pickle.loads(pickle.dumps(files))
  assert [copy[i] for i in range(8)] == CONTENT + CONTENT[::-1]


def test_index_is_cached_until_a_file_changes(file, monkeypatch):
  path, _ = file
  tfrecord.RecordFiles([path])
  scans = []
  scan = tfrecord._scan
  monkeypatch.setattr(
    tfrecord, '_scan', lambda path: scans.append(path) or scan(path)
  )
  assert tfrecord.RecordFiles([path]).counts.tolist() == [4]
  assert not scans
  records.write_tfrecords(path, CONTENT[:3] + [b'new', b'newer'])
  assert tfrecord.RecordFiles([path]).counts.tolist() == [5]
  assert scans == [str(path)]


def test_damaged_cache_is_rebuilt(file):
  path, _ = file
  tfrecord.RecordFiles([path])
  for kept in (files.cache_folder('tfrecord')).iterdir():
    kept.write_bytes(kept.read_bytes()[:100])
  assert tfrecord.RecordFiles([path])[0] == b'first'


@pytest.mark.parametrize('cut', [1, 4, 5, 13, 16])
def test_truncated_file_is_an_error_with_its_offset(file, cut):
  path, offsets = file
  path.write_bytes(path.read_bytes()[:-cut])
  with pytest.raises(errors.UserError) as caught:
    tfrecord.RecordFiles([path])
  assert str(path) in str(caught.value)
  assert f'truncated: the file ends at byte {path.stat().st_size}' in str(
    caught.value
  )
  assert f'record at byte {offsets[-1]};' in str(caught.value)


@pytest.mark.parametrize('byte', [0, 7, 8, 11])
def test_corrupt_length_is_an_error_with_its_offset(file, byte):
  path, offsets = file
  data = bytearray(path.read_bytes())
  data[offsets[2] + byte] ^= 64
  path.write_bytes(data)
  match = f'{path}: the length at byte {offsets[2]} is corrupt'
  with pytest.raises(errors.UserError, match=match):
    tfrecord.RecordFiles([path])


@pytest.mark.parametrize('byte', [12, 12 + 4999, 12 + 5000])
def test_corrupt_record_is_an_error_with_its_offset(file, byte):
  path, offsets = file
  data = bytearray(path.read_bytes())
  data[offsets[2] + byte] ^= 1
  path.write_bytes(data)
  files = tfrecord.RecordFiles([path])
  assert files[3] == b'4'
  match = f'{path}: the record at byte {offsets[2]} is corrupt'
  with pytest.raises(errors.UserError, match=match):
    files[2]


def test_file_truncated_after_it_was_indexed(file):
  path, offsets = file
  files = tfrecord.RecordFiles([path])
  path.write_bytes(path.read_bytes()[: offsets[2] + 20])
  for index, match in ((2, 'truncated'), (3, 'truncated')):
    with pytest.raises(errors.UserError, match=match):
      files[index]
  path.unlink()
  with pytest.raises(errors.UserError, match=f'{path}: cannot be read: No'):
    files[0]


def test_indexing_reads_only_headers(tmp_path):
  # A sparse file: an 8 GiB record with only its header written.
  path = tmp_path / 'sparse'
  length = struct.pack('<Q', 2**33)
  with open(path, 'wb') as file:
    file.write(length + struct.pack('<I', tfrecord.masked_crc(length)))
    file.truncate(16 + 2**33)
  assert tfrecord.RecordFiles([path]).counts.tolist() == [1]


def test_no_files():
  assert np.array_equal(tfrecord.RecordFiles([]).counts, [])


def test_only_regular_files_are_opened(tmp_path):
  path = tmp_path / 'x.tfrecord'
  os.mkfifo(path)
  with pytest.raises(errors.UserError, match='cannot be read: not a regular'):
    tfrecord.RecordFiles([path])
