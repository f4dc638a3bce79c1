"""Recognizes files that are often passed in place of weights."""

import re
from typing import NamedTuple

LENGTH = 512
"""Number of bytes that `describe` needs."""


class _Signature(NamedTuple):
  """How a kind of file begins, what it is, and what to do about it."""

  pattern: re.Pattern[bytes]
  what: str
  remedy: str


def _starts(pattern: bytes, what: str, remedy: str) -> _Signature:
  return _Signature(
    re.compile(pattern, re.DOTALL | re.IGNORECASE), what, remedy
  )


_SAVE_FILE = (
  'save the state dict with safetensors.torch.save_file and pass that file'
)
_UNPACK = 'unpack it and pass the file in it'
_SIGNATURES = (
  # Archives of NumPy and of torch.save, in this order, are both zip files.
  _starts(
    rb'PK\x03\x04.{26}[^\0/]{1,200}\.npy',
    'an archive of arrays (numpy.savez) without the names of modules',
    'pass a pickle {module: {name: array}}, or a safetensors file',
  ),
  _starts(
    rb'PK\x03\x04', 'a zip archive, as written by torch.save', _SAVE_FILE
  ),
  # The pickled magic number of torch.save before version 1.6.
  _starts(
    rb'\x80.\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\.',
    'written by an old torch.save',
    _SAVE_FILE,
  ),
  _starts(
    rb'version \w+://git-lfs',
    'a Git LFS pointer: the weights were not downloaded',
    'run git lfs pull',
  ),
  _starts(
    rb'(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)',
    'a web page, as servers send in place of a file',
    'open its address in a browser, log in if necessary, and download again',
  ),
  _starts(
    rb'(\xef\xbb\xbf)?\s*[{\[].*"weight_map"',
    'the index of weights in several files',
    'merge them into one safetensors file',
  ),
  _starts(
    rb'(\xef\xbb\xbf)?\s*[{\[]\s*["{\]}\[]',
    'a JSON file',
    'pass the weights, often model.safetensors beside it, or their folder',
  ),
  _starts(rb'\x1f\x8b|BZh|\xfd7zXZ\0|\x28\xb5\x2f\xfd', 'compressed', _UNPACK),
  _starts(rb'.{257}ustar', 'a tar archive', _UNPACK),
  _starts(
    rb'\x89HDF\r\n', 'an HDF5 file, as written by Keras', 'pass safetensors'
  ),
  _starts(
    rb'\xff\xd8\xff|\x89PNG|GIF8|RIFF.{4}WEBP', 'an image', 'pass weights'
  ),
)


def describe(head: bytes) -> str | None:
  """Returns what a file is that is no weights file, and what to do about it.

  Args:
    head: its first `LENGTH` bytes.

  Returns:
    Such as 'is a Git LFS pointer ...; run git lfs pull'; None for a file that
    may hold weights.
  """
  for signature in _SIGNATURES:
    if signature.pattern.match(head):
      return f'is {signature.what}; {signature.remedy}'
  return None
