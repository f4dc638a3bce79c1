"""Arrays kept in the user's cache between runs, such as file indices."""

import hashlib
import logging
import os
import pathlib
import zipfile

import numpy as np

from nfnets import files

_LOG = logging.getLogger(__name__)


def entry_path(kind: str, key: str) -> pathlib.Path:
  """Returns the cache file for a key.

  Args:
    kind: the subfolder of the cache.
    key: any string, such as a folder's path.
  """
  digest = hashlib.sha256(os.fsencode(key)).hexdigest()[:32]
  return files.cache_folder(kind) / f'{digest}.npz'


def load_arrays(path: pathlib.Path) -> dict[str, np.ndarray] | None:
  """Loads what `save_arrays` wrote; None if it is missing or damaged."""
  try:
    with np.load(path, allow_pickle=False) as arrays:
      return dict(arrays)
  except (OSError, ValueError, EOFError, zipfile.BadZipFile):
    return None


def save_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes arrays atomically.

  A failure is only logged as a warning: without the cache, the next run is
  slower.
  """
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary, open(temporary, 'wb') as file:
      np.savez(file, **arrays)  # type: ignore[arg-type]
  except OSError as error:
    _LOG.warning('%s cannot be cached for the next run: %s', path, error)
