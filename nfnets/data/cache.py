"""Where prepared data and indices are kept between runs."""

import hashlib
import logging
import os
import pathlib
import zipfile

import numpy as np

from nfnets import files

_LOG = logging.getLogger(__name__)


def entry_path(kind: str, key: str) -> pathlib.Path:
  """The file in the cache that belongs to a key, such as a folder's path."""
  digest = hashlib.sha256(os.fsencode(key)).hexdigest()[:32]
  return files.cache_folder(kind) / f'{digest}.npz'


def load_arrays(path: pathlib.Path) -> dict[str, np.ndarray] | None:
  """Reads what `save_arrays` wrote; None if there is nothing to be read."""
  try:
    with np.load(path, allow_pickle=False) as arrays:
      return dict(arrays)
  except (OSError, ValueError, EOFError, zipfile.BadZipFile):
    return None


def save_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes arrays under a name at once, so that no reader sees half of them.

  A cache that cannot be written is a warning: it only costs time.
  """
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary, open(temporary, 'wb') as file:
      np.savez(file, **arrays)  # type: ignore[arg-type]
  except OSError as error:
    _LOG.warning('%s is not kept for the next run: %s', path, error)
