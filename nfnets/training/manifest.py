"""What a checkpoint says of itself, and whether its arrays agree.

Orbax does not notice a flipped bit inside an array, an emptied directory or an
array of another shape. So each checkpoint carries a manifest: name, shape,
dtype and SHA-256 of every array, and a SHA-256 of the manifest itself.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import jax
import numpy as np

Arrays = dict[str, np.ndarray]


class DamagedError(Exception):
  """A checkpoint that is not what was written; the message says how."""


def flatten(tree: Any) -> dict[str, Any]:
  """{'params/NFNet/~/conv/w': leaf, ...}, any pytree."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in leaves
  }


def host_copy(state: Any) -> dict[str, np.ndarray]:
  """Copies: on CPU numpy would look into buffers that the next step reuses."""
  return {
    name: np.array(x) for name, x in flatten(jax.device_get(state)).items()
  }


def unflatten(arrays: Arrays, target: Any) -> Any:
  """The pytree of the structure of `target` with the leaves of `arrays`."""
  names = flatten(target)
  return jax.tree.unflatten(
    jax.tree.structure(target), [arrays[name] for name in names]
  )


def make(arrays: Arrays, **extra: Any) -> dict[str, Any]:
  """Describes the arrays; `extra` is any JSON that is kept beside them."""
  with futures.ThreadPoolExecutor() as pool:  # hashing lets go of the GIL
    digests = pool.map(_sha256, arrays.values())
    leaves = {
      name: {'shape': list(x.shape), 'dtype': x.dtype.name, 'sha256': digest}
      for (name, x), digest in zip(arrays.items(), digests, strict=True)
    }
  body = {**extra, 'leaves': leaves}
  return {**body, 'sha256': _json_sha256(body)}


def parse(text: str | bytes) -> dict[str, Any]:
  """Reads a manifest back.

  Raises:
    DamagedError: the text is not what `make` returned.
  """
  try:
    manifest = json.loads(text)
    digest = manifest.pop('sha256')
  except (ValueError, KeyError, AttributeError, TypeError) as error:
    raise DamagedError(f'its manifest cannot be read ({error})') from error
  if digest != _json_sha256(manifest):
    raise DamagedError('its manifest does not match its own SHA-256')
  return manifest


def verify(arrays: Arrays, leaves: Mapping[str, Mapping[str, Any]]) -> None:
  """Compares arrays with what their manifest says.

  Args:
    arrays: as read.
    leaves: the part of a manifest's 'leaves' with the same names.

  Raises:
    DamagedError: an array has another shape, dtype or content.
  """
  with futures.ThreadPoolExecutor() as pool:
    digests = dict(zip(arrays, pool.map(_sha256, arrays.values()), strict=True))
  for name, leaf in leaves.items():
    x = arrays[name]
    if list(x.shape) != leaf['shape'] or x.dtype.name != leaf['dtype']:
      raise DamagedError(f'{name} is {x.dtype.name}{list(x.shape)}')
    if digests[name] != leaf['sha256']:
      raise DamagedError(f'{name} does not match its SHA-256')


def mismatches(
  target: Any, leaves: Mapping[str, Mapping[str, Any]]
) -> list[str]:
  """Where a checkpoint does not fit the state it is to fill, in words."""
  wanted = {
    name: f'{np.dtype(x.dtype).name}{list(x.shape)}'
    for name, x in flatten(target).items()
  }
  found = {k: f'{leaf["dtype"]}{leaf["shape"]}' for k, leaf in leaves.items()}
  return [
    f'{name} is {found.get(name, "missing")} there and '
    f'{wanted.get(name, "missing")} here'
    for name in sorted(wanted.keys() | found.keys())
    if wanted.get(name) != found.get(name)
  ]


def _sha256(x: np.ndarray) -> str:
  data = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
  return hashlib.sha256(data.data).hexdigest()


def _json_sha256(body: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
