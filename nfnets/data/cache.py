"""Arrays kept in the user's cache between runs, such as file indices."""

import hashlib
import logging
import os
import pathlib
import zipfile

import numpy as np

from nfnets import files

_LOG = logging.getLogger(__name__)

_DIGEST = 'sha256'


def entry_path(kind: str, key: str) -> pathlib.Path:
  """Returns the cache file for a key.

  Args:
    kind: the subfolder of the cache.
    key: any string, such as a folder's path.
  """
  digest = hashlib.sha256(os.fsencode(key)).hexdigest()[:32]
  return files.cache_folder(kind) / f'{digest}.npz'


def load_arrays(path: pathlib.Path) -> dict[str, np.ndarray] | None:
  """Loads what `save_arrays` wrote there; None if it is missing or damaged."""
  try:
    with files.open_regular(path) as file, zipfile.ZipFile(file) as archive:
      # Stored ones cannot grow when they are read.
      if any(x.compress_type != zipfile.ZIP_STORED for x in archive.filelist):
        return None
      with np.load(file, allow_pickle=False) as loaded:
        arrays = dict(loaded)
    digest = arrays.pop(_DIGEST)
  except Exception:  # Neither zipfile nor NumPy documents all of its errors.
    return None
  if not np.array_equal(digest, _digest(path, arrays)):
    return None
  return arrays


def save_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes arrays atomically, with a digest.

  A failure is only logged as a warning: without the cache, the next run is
  slower.
  """
  stamped = {**arrays, _DIGEST: _digest(path, arrays)}
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary, open(temporary, 'wb') as file:
      np.savez(file, **stamped)  # type: ignore[arg-type]
  except OSError as error:
    _LOG.warning('%s cannot be cached for the next run: %s', path, error)


def _digest(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
  """Returns uint8[32], the SHA-256 of an entry and of the name of its file."""
  total = hashlib.sha256(path.name.encode())
  for name in sorted(arrays):
    array = np.asarray(arrays[name], order='C')
    total.update(f'\n{name} {array.dtype.str} {array.shape}\n'.encode())
    total.update(array.tobytes())
  return np.frombuffer(total.digest(), np.uint8)
