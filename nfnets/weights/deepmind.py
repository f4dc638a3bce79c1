"""The published files of F0-F6, and pickles of our own in their form.

A file is a pickle of Haiku's {module: {name: array}}, whose names are ours.
Networks with state (batch normalization) are a pair (parameters, state).
"""

import hashlib
import logging
import pathlib
import pickle
from typing import Any, NamedTuple

import numpy as np

from nfnets import errors
from nfnets.weights import files, safe_pickle, tree

_log = logging.getLogger(__name__)

# F7 and the wider '+' networks were never published.
PUBLISHED_MD5 = {
  'nfnet_f0': '0a41039da1cb43adf47f1b7d86ddfe0f',
  'nfnet_f1': 'c9126bbfaf855f9ddb7ff3b902558781',
  'nfnet_f2': '7a018d8d1498020e2f5a8719a1e7f53f',
  'nfnet_f3': 'd8e1e78d26db659c486150dbaccbe78a',
  'nfnet_f4': 'f5974a7e3388aa81b91a9f1403e759a4',
  'nfnet_f5': '8639e925de951030651ac775b9f915c3',
  'nfnet_f6': 'b16cca40ac1ecec2bd5e3273866da0c1',
}

# Readers of pickles stop at the pickle's end: the digest of what stands before
# it can follow.
_SEAL = b'nfnets-sha256:'


class Trees(NamedTuple):
  """Parameters and state, flat."""

  params: tree.Flat
  state: tree.Flat


def read(path: pathlib.Path, name: str | None) -> Trees:
  """Reads a pickle of parameters; nothing in it is run.

  Args:
    path: a published file, or one that `write` wrote, or any other pickle of
      a Haiku tree.
    name: the model, whose published md5 is compared; a file that is neither
      published nor sealed by `write` is accepted with a warning, since a
      network trained elsewhere has the same form. None compares nothing.

  Returns:
    The parameters and the state.

  Raises:
    UserError: the file is damaged, holds something else, or asks to run code.
  """
  sealed = _check_seal(path)
  value = safe_pickle.load(path)
  pair = value if isinstance(value, tuple | list) else (value, {})
  if len(pair) != 2 or not all(_is_tree(part) for part in pair):
    raise errors.UserError(
      f'{path}: holds no parameters, which are a dict of dicts of arrays'
    )
  if not sealed and name in PUBLISHED_MD5:
    _compare_md5(path, name)
  return Trees(*(tree.flatten(part) for part in pair))


def write(path: pathlib.Path, params: tree.Nested, state: tree.Nested) -> None:
  """Writes parameters (and state, if any) as the published files hold them.

  Args:
    path: where to.
    params: {module: {name: array}}.
    state: the same; left out when empty.

  Raises:
    UserError: the file cannot be written.
  """
  arrays = _as_arrays(params)
  value = (arrays, _as_arrays(state)) if state else arrays
  data = pickle.dumps(value, protocol=4)
  seal = _SEAL + hashlib.sha256(data).hexdigest().encode()
  with files.replacing(path) as temporary:
    temporary.write_bytes(data + seal)


def _as_arrays(nested: tree.Nested) -> tree.Nested:
  return {
    module: {
      name: np.asarray(array, order='C') for name, array in values.items()
    }
    for module, values in nested.items()
  }


def _is_tree(value: Any) -> bool:
  return isinstance(value, dict) and all(
    isinstance(module, str)
    and isinstance(values, dict)
    and all(
      isinstance(name, str) and isinstance(array, np.ndarray)
      for name, array in values.items()
    )
    for module, values in value.items()
  )


def _check_seal(path: pathlib.Path) -> bool:
  """Whether `write` made the file; raises if it was changed since."""
  length = len(_SEAL) + 2 * hashlib.sha256().digest_size
  digest = hashlib.sha256()
  size = path.stat().st_size
  with open(path, 'rb') as file:
    file.seek(max(size - length, 0))
    seal = file.read()
    if not seal.startswith(_SEAL):
      return False
    file.seek(0)
    left = size - length
    while block := file.read(min(left, 2**20)):
      digest.update(block)
      left -= len(block)
  if seal != _SEAL + digest.hexdigest().encode():
    raise errors.UserError(
      f'{path}: damaged: its SHA-256 is not the one written in it; fetch or '
      'write it again'
    )
  return True


def _compare_md5(path: pathlib.Path, name: str) -> None:
  with open(path, 'rb') as file:
    found = hashlib.file_digest(file, 'md5').hexdigest()
  if found != PUBLISHED_MD5[name]:
    _log.warning(
      'warning: %s: md5 %s is not that of the published %s (%s): used as it '
      'is; fetch it again if it should be the published one',
      path,
      found,
      name,
      PUBLISHED_MD5[name],
    )
