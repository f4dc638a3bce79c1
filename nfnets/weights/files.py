"""Files of named tensors: safetensors in and out, and telling files apart."""

import contextlib
import hashlib
import json
import pathlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from nfnets import errors, files

Tensors = dict[str, np.ndarray[Any, Any]]
Kind = Literal['safetensors', 'pickle', 'directory']

_DIGEST = 'sha256'
# A safetensors file begins with the length of its header, then the header.
_HEADER_LENGTH = struct.Struct('<Q')
_MAX_HEADER = 100_000_000


class Contents(NamedTuple):
  """What is in a safetensors file."""

  tensors: Tensors
  metadata: dict[str, str]
  sealed: bool  # written by `write_safetensors` and unchanged since


def kind(path: pathlib.Path) -> Kind:
  """What kind of file this is, by its first bytes and never by its name.

  Args:
    path: a file or a directory.

  Returns:
    'safetensors', 'directory', or 'pickle' for everything that can only be
    one (`safe_pickle.load` says so if it is not).

  Raises:
    UserError: there is no such file, it cannot be read, or it is of a kind
      that holds no weights or that is not safe to read.
  """
  if path.is_dir():
    return 'directory'
  try:
    with open(path, 'rb') as file:
      head = file.read(_HEADER_LENGTH.size + 1)
  except FileNotFoundError:
    raise errors.UserError(
      f'{path}: no such file; give a file, or a model of the Hugging Face '
      'hub such as timm/dm_nfnet_f0.dm_in1k'
    ) from None
  except OSError as error:
    raise errors.UserError(
      f'{path}: cannot be read: {error.strerror}'
    ) from None
  if not head:
    raise errors.UserError(f'{path}: the file is empty; fetch it again')
  if head.startswith(b'PK\x03\x04'):
    raise errors.UserError(
      f'{path}: a zip archive, such as torch.save makes; save its state dict '
      'with safetensors.torch.save_file and give that file'
    )
  return 'safetensors' if _looks_like_safetensors(head) else 'pickle'


def _looks_like_safetensors(head: bytes) -> bool:
  if len(head) <= _HEADER_LENGTH.size or head[-1:] != b'{':
    return False
  return _HEADER_LENGTH.unpack_from(head)[0] <= _MAX_HEADER


def read_safetensors(path: pathlib.Path) -> Contents:
  """Reads every tensor of a safetensors file.

  Args:
    path: a safetensors file.

  Returns:
    The tensors, C-contiguous, by name, and the file's metadata.

  Raises:
    UserError: the file is damaged: its header does not fit it, or its tensors
      are not those that `write_safetensors` wrote.
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
      f'{path}: not a readable safetensors file ({reason}); fetch or write '
      'it again'
    ) from None
  written = metadata.pop(_DIGEST, None)
  if written is not None and written != digest(tensors, metadata):
    raise errors.UserError(
      f'{path}: damaged: its SHA-256 is not the one written in it; fetch or '
      'write it again'
    )
  return Contents(tensors, metadata, written is not None)


def write_safetensors(
  path: pathlib.Path, tensors: Tensors, metadata: Mapping[str, str]
) -> None:
  """Writes tensors with a digest of all of them; nothing partial is left.

  Args:
    path: where to; a file there is replaced in one step.
    tensors: arrays by name, of any memory order.
    metadata: strings to keep beside them.

  Raises:
    UserError: the file cannot be written.
  """
  # safetensors stores the memory of arrays of another order as it lies.
  arrays = {k: np.asarray(v, order='C') for k, v in tensors.items()}
  stamped = {**metadata, _DIGEST: digest(arrays, metadata)}
  with replacing(path) as temporary:
    safetensors_numpy.save_file(arrays, temporary, stamped)


def digest(tensors: Tensors, metadata: Mapping[str, str]) -> str:
  """The SHA-256 of names, types, shapes, values and metadata, as hex."""
  total = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
  for name in sorted(tensors):
    array = np.asarray(tensors[name], order='C')
    total.update(f'\n{name} {array.dtype.name} {array.shape}\n'.encode())
    total.update(array.reshape(-1).view(np.uint8).data)
  return total.hexdigest()


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """`files.replacing`, with errors that a user can fix.

  Args:
    path: the file to write.

  Yields:
    The file to write instead, in the same folder.

  Raises:
    UserError: the folder is missing or cannot be written.
  """
  try:
    with files.replacing(path) as temporary:
      yield temporary
  except (OSError, safetensors.SafetensorError) as error:
    raise errors.UserError(f'{path}: cannot be written: {error}') from None
