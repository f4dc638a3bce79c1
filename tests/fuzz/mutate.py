"""Mutations of files: bytes, lengths, JSON, and checksums that fit again.

All draws come from one `random.Random`, so a seed determines every input.
"""

import hashlib
import json
import random
import struct
import zlib

from nfnets.data import tfrecord

Tree = dict[str, bytes]
"""The files of a folder by their relative paths."""

_INTEGERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63 - 1)
_TOKENS = (
  b'\0', b'\xff' * 8, b'\n', b'\r\n', b'"', b'{', b'[', b'-1', b'1e999',
  b'NaN', b'99999999999', b'\xed\xa0\x80', b'.', b'(', b'R', b'c', b'../..',
  b'cposix\nsystem\n', b'\x80\x04', b'IDAT', b'IEND', b'IHDR', b'PK\x03\x04',
)  # fmt: skip
# Stands for text that json.dumps would not write.
_RAW = {
  '@deep@': '[' * 20_000,
  '@deep closed@': '[' * 20_000 + ']' * 20_000,
  '@level 40@': '[' * 40 + ']' * 40,
  '@digits@': '9' * 5000,
  '@90 digits@': '9' * 90,
  '@surrogate@': '"\\ud800"',
  '@nan@': 'NaN',
  '@infinity@': '-Infinity',
}
_VALUES = (
  None, True, False, 0, -1, 1, 7, 1e9, 1e308, 1e-308, 10**9, 2**63, '', 'x',
  '\x1b[31m\n', 'x' * 300, [], [[]], {}, {'a': 1}, [1] * 5, *_RAW,
)  # fmt: skip


def mutated(tree: Tree, paths: list[str], rng: random.Random) -> Tree:
  """Returns a tree with one or a few of its files changed.

  Args:
    tree: the files.
    paths: those that may change.
    rng: the source of all draws.
  """
  result = dict(tree)
  for path in rng.sample(paths, min(len(paths), rng.choice((1, 1, 1, 1, 2)))):
    others = [data for other, data in tree.items() if other != path]
    data = result[path]
    for mutation in rng.choices((_structure, _binary), k=rng.choice((1, 1, 2))):
      data = mutation(data, rng)
    if others and rng.random() < 0.02:
      data = rng.choice(others)
    elif rng.random() < 0.5:
      data = restamped(data)
    result[path] = data
  return result


def _structure(data: bytes, rng: random.Random) -> bytes:
  """Changes JSON as JSON, other files as bytes."""
  if data.startswith((b'\x89PNG', b'GIF', b'RIFF')):
    return _binary(data, rng)
  length = int.from_bytes(data[:8], 'little')
  if data[8:9] == b'{' and length < len(data):  # safetensors
    header = _header(data[8 : 8 + length], rng)
    return struct.pack('<Q', len(header)) + header + data[8 + length :]
  lines = data.splitlines(keepends=True)
  if data.startswith(b'--'):
    at = rng.randrange(len(lines))
    name, equals, _ = lines[at].partition(b'=')
    value = _as_text(rng.choice(_VALUES)).encode('utf-8', 'surrogatepass')
    lines[at] = name + equals + rng.choice((value, value.strip(b'"'))) + b'\n'
    return b''.join(lines)
  if data[:1] not in b'{[':
    return _binary(data, rng)
  if len(lines) > 1 and all(line[:1] == b'{' for line in lines):
    at = rng.randrange(len(lines))
    lines[at] = _json(lines[at], rng) + b'\n'
    return b''.join(lines)
  return _json(data, rng)


def _header(data: bytes, rng: random.Random) -> bytes:
  """Changes the header of a safetensors file, mostly its metadata."""
  try:
    header = json.loads(data)
    metadata = header['__metadata__']
  except (ValueError, RecursionError, KeyError, TypeError):
    return _json(data, rng)
  if rng.random() < 0.3:
    return _json(data, rng)
  return _as_text({**header, '__metadata__': _changed(metadata, rng)}).encode(
    'utf-8', 'surrogatepass'
  )


def _json(data: bytes, rng: random.Random) -> bytes:
  try:
    value = json.loads(data)
  except (ValueError, RecursionError):
    return _binary(data, rng)
  return _as_text(_changed(value, rng)).encode('utf-8', 'surrogatepass')


def _as_text(value: object) -> str:
  try:
    text = json.dumps(value)
  except RecursionError:
    return '['
  for token, raw in _RAW.items():
    text = text.replace(json.dumps(token), raw)
  return text


def _changed(value: object, rng: random.Random) -> object:
  """Returns a JSON value with one change, at a random depth."""
  if isinstance(value, str) and value[:1] in ('{', '[') and rng.random() < 0.8:
    return _json(value.encode(), rng).decode(errors='replace')
  members = list(value) if isinstance(value, dict | list) else []
  if not members or rng.random() < 0.15:
    return rng.choice(_VALUES)
  kind = rng.random()
  if isinstance(value, dict):
    key = rng.choice(members)
    if kind < 0.1:
      return {k: v for k, v in value.items() if k != key}
    if kind < 0.2:
      name = rng.choice(('', 'x', 'step', '\x1b]0;\x07', key * 2, '7', 'name'))
      return {**value, name: rng.choice((value[key], *_VALUES))}
    return {**value, key: _changed(value[key], rng)}
  at = rng.randrange(len(members))
  if kind < 0.1:
    return members[:at]
  if kind < 0.2:
    return members * rng.choice((2, 50))
  return [*members[:at], _changed(members[at], rng), *members[at + 1 :]]


def _binary(data: bytes, rng: random.Random) -> bytes:
  """Changes bytes: bits, integers, pieces, tokens."""
  out = bytearray(data)
  for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
    # Most fields that matter are close to the beginning.
    end = len(out) if rng.random() < 0.5 else min(len(out), 256)
    at = rng.randrange(end + 1)
    kind = rng.randrange(8)
    if kind == 0:
      del out[at:]
    elif kind == 1 and at < len(out):
      out[at] ^= 1 << rng.randrange(8)
    elif kind == 2 and at < len(out):
      out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    elif kind == 3:
      _write_integer(out, at, rng)
    elif kind == 4:
      out[at:at] = rng.choice(_TOKENS)
    elif kind == 5:
      piece = out[at : at + rng.choice((1, 4, 16, 64, 256))]
      to = rng.randrange(len(out) + 1)
      out[to:to] = piece * rng.choice((1, 1, 2, 30))
    elif kind == 6:
      del out[at : at + rng.choice((1, 2, 4, 8, 64, 512))]
    else:
      to = rng.randrange(len(out) + 1)
      piece = out[at : at + rng.choice((1, 4, 16, 64))]
      out[to : to + len(piece)] = piece
  return bytes(out)


def _write_integer(out: bytearray, at: int, rng: random.Random) -> None:
  form = rng.choice(('<H', '>H', '<I', '>I', '<Q', '>Q'))
  size = struct.calcsize(form)
  if at + size > len(out):
    return
  (old,) = struct.unpack_from(form, out, at)
  delta = rng.choice((-1, 1, 16, 2**15))
  value = rng.choice((*_INTEGERS, old + delta, len(out), len(out) - at))
  struct.pack_into(form, out, at, value % 2 ** (8 * size))


def restamped(data: bytes) -> bytes:
  """Makes the checksums of a changed file fit, so that readers continue.

  Knows PNG, TFRecord, and the digests of our manifests and weights files.
  """
  if data.startswith(b'\x89PNG\r\n\x1a\n'):
    return _restamp_png(data)
  if data.startswith(b'{') and b'"sha256"' in data:
    return _restamp_manifest(data)
  length = int.from_bytes(data[:8], 'little')
  if data[8:9] == b'{' and length < len(data):
    return _restamp_weights(data)
  return _restamp_records(data)


def _restamp_png(data: bytes) -> bytes:
  out, at = bytearray(data), 8
  while at + 12 <= len(out):
    (length,) = struct.unpack_from('>I', out, at)
    end = at + 8 + length
    if end + 4 > len(out):
      break
    struct.pack_into('>I', out, end, zlib.crc32(out[at + 4 : end]))
    at = end + 4
  return bytes(out)


def _restamp_records(data: bytes) -> bytes:
  out, at = bytearray(data), 0
  while at + 16 <= len(out):
    (length,) = struct.unpack_from('<Q', out, at)
    end = at + 12 + length
    crc = tfrecord.masked_crc(bytes(out[at : at + 8]))
    struct.pack_into('<I', out, at + 8, crc)
    if end + 4 > len(out):
      break
    crc = tfrecord.masked_crc(bytes(out[at + 12 : end]))
    struct.pack_into('<I', out, end, crc)
    at = end + 4
  # Anything else than records would only be destroyed.
  return bytes(out) if at == len(out) and at else data


def _restamp_manifest(data: bytes) -> bytes:
  try:
    body = json.loads(data)
    del body['sha256']
    text = json.dumps(body, sort_keys=True)
  except (ValueError, RecursionError, TypeError, KeyError):
    return data
  digest = hashlib.sha256(text.encode()).hexdigest()
  return json.dumps({**body, 'sha256': digest}).encode()


def _restamp_weights(data: bytes) -> bytes:
  from safetensors import numpy as safetensors_numpy

  from nfnets.weights import files

  length = int.from_bytes(data[:8], 'little')
  try:
    header = json.loads(data[8 : 8 + length])
    metadata = dict(header['__metadata__'])
    del metadata['sha256']
    tensors = safetensors_numpy.load(data)
    digest = files.digest(tensors, metadata)
  except BaseException:  # The library may panic, which is not an Exception.
    return data
  header['__metadata__'] = {**metadata, 'sha256': digest}
  text = json.dumps(header).encode()
  return struct.pack('<Q', len(text)) + text + data[8 + length :]
