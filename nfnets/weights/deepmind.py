"""Reads and writes pickles in the format of the published F0-F6 files.

A file is a pickle of Haiku's parameters {module: {name: array}}, with the same
names as ours. Networks with state (batch normalization) are stored as a pair
(parameters, state).
"""

import hashlib
import logging
import pathlib
import pickle
from typing import NamedTuple, TypeGuard

import numpy as np

from nfnets import errors
from nfnets.models import catalogue
from nfnets.weights import files, safe_pickle, tree

_log = logging.getLogger(__name__)

# Unpicklers stop at the end of the pickle, so a digest can follow it.
_DIGEST_PREFIX = b'nfnets-sha256:'


class Trees(NamedTuple):
  """Parameters and state by flat name."""

  params: tree.Flat
  state: tree.Flat


def read(path: pathlib.Path, name: str | None) -> Trees:
  """Reads a pickle of parameters without executing any of it.

  Args:
    path: a published file, a file written by `write`, or any other pickle of a
      Haiku tree.
    name: the model's name. If DeepMind published its file, a file without the
      digest of `write` is compared with the published MD5. A mismatch logs
      only a warning because networks trained elsewhere use the same format.

  Returns:
    The parameters and the state.

  Raises:
    UserError: the file is damaged, does not hold parameters, or requests
      anything that could execute code.
  """
  has_digest = _verify_digest(path)
  value = safe_pickle.load(path)
  params, state = value if _is_pair(value) else (value, {})
  if not (_is_tree(params) and _is_tree(state)):
    raise errors.UserError(
      f'{path}: does not hold parameters, a dict of dicts of arrays; pass a'
      ' file of weights'
    )
  published = catalogue.PUBLISHED.get(name) if name else None
  if published and published.file and not has_digest:
    _compare_md5(path, published.file)
  return Trees(tree.flatten(params), tree.flatten(state))


def write(path: pathlib.Path, params: tree.Nested, state: tree.Nested) -> None:
  """Writes parameters and state in the format of the published files.

  Appends a SHA-256 of the pickle, which other readers ignore.

  Args:
    path: the file to write.
    params: {module: {name: array}}.
    state: {module: {name: array}}, omitted if empty.

  Raises:
    UserError: the file cannot be written.
  """
  arrays = _as_arrays(params)
  value = (arrays, _as_arrays(state)) if state else arrays
  data = pickle.dumps(value, protocol=4)
  digest = _DIGEST_PREFIX + hashlib.sha256(data).hexdigest().encode()
  with files.replacing(path) as temporary:
    temporary.write_bytes(data + digest)


def _as_arrays(nested: tree.Nested) -> tree.Nested:
  return {
    module: {
      name: np.asarray(array, order='C') for name, array in values.items()
    }
    for module, values in nested.items()
  }


def _is_pair(value: object) -> TypeGuard[tuple[object, object] | list[object]]:
  return isinstance(value, tuple | list) and len(value) == 2


def _is_tree(value: object) -> TypeGuard[tree.Nested]:
  return isinstance(value, dict) and all(
    isinstance(module, str)
    and isinstance(values, dict)
    and all(
      isinstance(name, str) and isinstance(array, np.ndarray)
      for name, array in values.items()
    )
    for module, values in value.items()
  )


def _verify_digest(path: pathlib.Path) -> bool:
  """Returns whether `write` wrote the file; raises if its bytes changed."""
  length = len(_DIGEST_PREFIX) + 2 * hashlib.sha256().digest_size
  sha256 = hashlib.sha256()
  size = path.stat().st_size
  with open(path, 'rb') as file:
    file.seek(max(size - length, 0))
    found = file.read()
    if not found.startswith(_DIGEST_PREFIX):
      return False
    file.seek(0)
    left = size - length
    while block := file.read(min(left, 2**20)):
      sha256.update(block)
      left -= len(block)
  if found != _DIGEST_PREFIX + sha256.hexdigest().encode():
    raise files.damaged(path)
  return True


def _compare_md5(path: pathlib.Path, published: catalogue.DeepMindFile) -> None:
  with open(path, 'rb') as file:
    found = hashlib.file_digest(file, 'md5').hexdigest()
  if found != published.md5:
    _log.warning(
      'warning: %s: md5 %s is not that of the published %s (%s); loading it'
      ' anyway: download it again if it should be the published file',
      path,
      found,
      published.name,
      published.md5,
    )
