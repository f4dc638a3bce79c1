"""Detects file types, and reads and writes safetensors with a digest."""

import contextlib
import hashlib
import json
import os
import pathlib
import struct
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from nfnets import errors, files
from nfnets.weights import signatures

Tensors = dict[str, np.ndarray]
"""Arrays by the names in a file."""
Kind = Literal['safetensors', 'pickle', 'directory']

_DIGEST = 'sha256'  # key in the metadata
# A safetensors file starts with the length of its JSON header.
_HEADER_LENGTH = struct.Struct('<Q')
_MAX_HEADER = 100_000_000  # bytes, the limit of the safetensors library


class Contents(NamedTuple):
  """The contents of a safetensors file."""

  tensors: Tensors
  metadata: dict[str, str]
  verified: bool  # has a digest of `write_safetensors`, which matches


def kind(path: pathlib.Path) -> Kind:
  """Detects the type of a file from its first bytes; ignores its name.

  Args:
    path: a file or a directory.

  Returns:
    'directory', 'safetensors', or 'pickle' for all other content, which
    `safe_pickle.load` refuses if it is not a pickle.

  Raises:
    UserError: the file does not exist, is not a regular file, cannot be read,
      is empty or is known to be something else (see `signatures`).
  """
  if os.path.isdir(path):
    return 'directory'
  try:
    with files.open_regular(path) as file:
      head = file.read(signatures.LENGTH)
  except FileNotFoundError:
    raise errors.UserError(
      f'{path}: no such file; pass a file or a Hugging Face id such as'
      ' timm/dm_nfnet_f0.dm_in1k'
    ) from None
  except OSError as error:
    raise errors.UserError(
      f'{path}: cannot be read: {error.strerror}'
    ) from None
  if not head:
    raise errors.UserError(f'{path}: the file is empty; download it again')
  if _looks_like_safetensors(head):
    return 'safetensors'
  if what := signatures.describe(head):
    raise errors.UserError(f'{path}: {what}')
  return 'pickle'


def _looks_like_safetensors(head: bytes) -> bool:
  size = _HEADER_LENGTH.size
  if head[size : size + 1] != b'{':
    return False
  return _HEADER_LENGTH.unpack_from(head)[0] <= _MAX_HEADER


def read_safetensors(path: pathlib.Path) -> Contents:
  """Reads every tensor of a safetensors file.

  Args:
    path: a safetensors file.

  Returns:
    The tensors (C-contiguous) by name, and the metadata.

  Raises:
    UserError: the file is damaged: its header is invalid, or the digest written
      by `write_safetensors` does not match.
  """
  try:
    with safetensors.safe_open(path, framework='np') as file:
      metadata = dict(file.metadata() or {})
      tensors = {name: file.get_tensor(name) for name in file.keys()}
  except (
    safetensors.SafetensorError,
    AttributeError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
  ) as error:
    reason = str(error).split('\n')[0][:120]
    raise errors.UserError(
      f'{path}: not a readable safetensors file ({reason}); download or write'
      ' it again'
    ) from None
  stored = metadata.pop(_DIGEST, None)
  if stored is not None and stored != digest(tensors, metadata):
    raise damaged(path)
  return Contents(tensors, metadata, stored is not None)


def damaged(path: pathlib.Path) -> errors.UserError:
  """Returns the error for a file that does not match its own digest.

  Args:
    path: the file.
  """
  return errors.UserError(
    f'{path}: is damaged: its SHA-256 differs from the one stored in it;'
    ' download or write it again'
  )


def write_safetensors(
  path: pathlib.Path, tensors: Tensors, metadata: Mapping[str, str]
) -> None:
  """Writes tensors and metadata with a digest of both, atomically.

  Args:
    path: the file to write; an existing file is replaced.
    tensors: arrays by name, in any memory order.
    metadata: strings to store with them.

  Raises:
    UserError: the file cannot be written.
  """
  # safetensors copies memory as is, which scrambles other memory orders.
  arrays = {k: np.asarray(v, order='C') for k, v in tensors.items()}
  stamped = {**metadata, _DIGEST: digest(arrays, metadata)}
  with replacing(path) as temporary:
    safetensors_numpy.save_file(arrays, temporary, stamped)


def digest(tensors: Tensors, metadata: Mapping[str, str]) -> str:
  """Computes the SHA-256 of names, dtypes, shapes, values and metadata.

  Args:
    tensors: arrays by name.
    metadata: the metadata without the digest.

  Returns:
    The digest in hexadecimal.
  """
  total = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
  for name in sorted(tensors):
    array = np.asarray(tensors[name], order='C')
    total.update(f'\n{name} {array.dtype.name} {array.shape}\n'.encode())
    total.update(array.reshape(-1).view(np.uint8).data)
  return total.hexdigest()


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Wraps `nfnets.files.replacing` and reports failures as user errors.

  Args:
    path: the file to replace.

  Yields:
    A temporary file in the same folder, to be written.

  Raises:
    UserError: the folder is missing or the file cannot be written.
  """
  try:
    with files.replacing(path) as temporary:
      yield temporary
  except (OSError, safetensors.SafetensorError) as error:
    raise errors.UserError(f'{path}: cannot be written: {error}') from None
