"""Random access to TFRecord files through an index of their records.

A record consists of its length (uint64, little-endian), a checksum of the
length, the data, and a checksum of the data. Checksums are CRC-32C, masked
(rotated right by 15 bits, plus a constant). Lengths are verified when the index
is built, data when it is read.
"""

import os
import pathlib
import struct
from collections.abc import Callable, Sequence
from concurrent import futures

import google_crc32c
import numpy as np

from nfnets import errors, files
from nfnets.data import cache, progress

_HEADER = struct.Struct('<QI')
_CHECKSUM = struct.Struct('<I')
_OVERHEAD = _HEADER.size + _CHECKSUM.size
# Reading headers mostly waits for the disk or the network.
_INDEX_THREADS = 16


def masked_crc(data: bytes) -> int:
  """Returns the checksum of these bytes, as TFRecord files store it."""
  crc = google_crc32c.value(data)
  return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


class RecordFiles:
  """The records of several TFRecord files, numbered consecutively.

  Attributes:
    paths: the files.
    counts: int64[files], the number of records in each.
  """

  def __init__(self, paths: Sequence[str | os.PathLike]):
    """Indexes the files, or loads the cached index of an earlier run.

    Raises:
      UserError: a file cannot be read, is truncated, or has a corrupt length.
    """
    self.paths = tuple(os.fspath(path) for path in paths)
    per_file = _index(self.paths)
    self.counts = np.array([len(offsets) for offsets in per_file], np.int64)
    self._offsets = np.concatenate([np.empty(0, np.int64), *per_file])
    self._stops = np.cumsum(self.counts)

  def __getitem__(self, index: int) -> bytes:
    """Reads a record's data.

    Raises:
      UserError: the file has changed since it was indexed, or is corrupt.
    """
    path = self.paths[np.searchsorted(self._stops, index, side='right')]
    offset = int(self._offsets[index])
    try:
      with files.open_regular(path) as file:
        file.seek(offset)
        length = _read_length(file.read(_HEADER.size), path, offset)
        data = file.read(length)
        checksum = file.read(_CHECKSUM.size)
    except OSError as error:
      raise _cannot_read(path, error) from error
    if len(checksum) < _CHECKSUM.size:
      raise _truncated(path, offset)
    if masked_crc(data) != _CHECKSUM.unpack(checksum)[0]:
      raise errors.UserError(
        f'{path}: the record at byte {offset} is corrupt: its checksum does not'
        ' match; copy or prepare the file again'
      )
    return data


def _read_length(header: bytes, path: str, offset: int) -> int:
  """Returns the length in a record's header after verifying its checksum."""
  if len(header) < _HEADER.size:
    raise _truncated(path, offset)
  length, crc = _HEADER.unpack(header)
  if masked_crc(header[:8]) != crc:
    raise errors.UserError(
      f'{path}: the length at byte {offset} is corrupt: its checksum does not'
      ' match; copy or prepare the file again'
    )
  return length


def _scan(path: str) -> np.ndarray:
  """Returns the offsets of a file's records, int64[records], in bytes."""
  offsets = []
  offset = 0
  try:
    with files.open_regular(path) as file:
      size = os.fstat(file.fileno()).st_size
      while offset < size:
        offsets.append(offset)
        file.seek(offset)
        header = file.read(_HEADER.size)
        offset += _OVERHEAD + _read_length(header, path, offset)
  except OSError as error:
    raise _cannot_read(path, error) from error
  if offset > size:
    raise _truncated(path, offsets[-1])
  return np.array(offsets, np.int64)


def _index(paths: tuple[str, ...]) -> list[np.ndarray]:
  """Returns each file's offsets, from the cache unless a file has changed."""
  stamps = np.array([_stamp(path) for path in paths], np.int64).reshape(-1, 2)
  cached_at = cache.entry_path(
    'tfrecord', '\0'.join(map(os.path.abspath, paths))
  )
  cached = cache.load_arrays(cached_at)
  if cached and np.array_equal(cached.get('stamps', ()), stamps):
    return np.split(cached['offsets'], np.cumsum(cached['counts'])[:-1])
  where = pathlib.Path(paths[0]).parent if paths else ''
  per_file = _in_threads(_scan, paths, f'indexing records in {where}')
  arrays = {
    'stamps': stamps,
    'counts': np.array([len(offsets) for offsets in per_file], np.int64),
    'offsets': np.concatenate([np.empty(0, np.int64), *per_file]),
  }
  cache.save_arrays(cached_at, arrays)
  return per_file


def _stamp(path: str) -> tuple[int, int]:
  """Returns a file's size and mtime, which differ after most changes."""
  try:
    status = os.stat(path)
  except OSError as error:
    raise _cannot_read(path, error) from error
  return status.st_size, status.st_mtime_ns


def _in_threads(
  scan: Callable[[str], np.ndarray], paths: tuple[str, ...], what: str
) -> list[np.ndarray]:
  with futures.ThreadPoolExecutor(_INDEX_THREADS) as pool:
    results = pool.map(scan, paths)
    return list(progress.track(results, len(paths), what, 'files'))


def _cannot_read(path: str, error: OSError) -> errors.UserError:
  return errors.UserError(f'{path}: cannot be read: {error.strerror}')


def _truncated(path: str, offset: int) -> errors.UserError:
  size = os.path.getsize(path)
  return errors.UserError(
    f'{path}: truncated: the file ends at byte {size}, within the record at'
    f' byte {offset}; copy or prepare the file again'
  )
