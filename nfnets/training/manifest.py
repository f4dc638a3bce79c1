"""A checkpoint's description of itself, and whether its arrays match it.

Orbax does not notice a flipped bit inside an array, an emptied directory or an
array of another shape. So each checkpoint carries a manifest: name, shape,
dtype and SHA-256 of every array, and a SHA-256 of the manifest itself.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent import futures
from typing import Any, TypeAlias, TypedDict, TypeGuard

import chex
import jax
import numpy as np

from nfnets import files
from nfnets.training import dataset as dataset_lib

Arrays: TypeAlias = dict[str, np.ndarray]
# {name: JSON value}
Settings: TypeAlias = dict[str, Any]


class Leaf(TypedDict):
  """Description of one array."""

  shape: list[int]
  dtype: str
  sha256: str


class Manifest(TypedDict):
  """The content of a manifest, without its own SHA-256."""

  step: int
  metrics: dict[str, float]
  config: Settings | None
  dataset: dataset_lib.Dataset | None
  """None if an older version wrote the checkpoint."""
  leaves: dict[str, Leaf]


class DamagedError(Exception):
  """A checkpoint differs from what was written; the message says how."""


def flatten(tree: chex.ArrayTree) -> dict[str, jax.Array]:
  """Returns {name: leaf} of a pytree, such as 'params/NFNet/~/conv/w'.

  Raises:
    ValueError: two leaves have the same name.
  """
  named: dict[str, jax.Array] = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    name = stable_name(jax.tree_util.keystr(path, simple=True, separator='/'))
    if name in named:
      raise ValueError(f'two arrays have the name {name!r}')
    named[name] = leaf
  return named


def stable_name(path: str) -> str:
  """Drops positions in tuples: 'opt_state/2/trace/w' -> 'opt_state/trace/w'.

  Adding or removing a transformation without arrays shifts the positions in
  `optax.chain`. Names without them still fit, as do checkpoints of versions
  that wrote the positions.
  """
  return '/'.join(name for name in path.split('/') if not name.isdecimal())


def host_copy(tree: chex.ArrayTree) -> Arrays:
  """Copies the leaves: on CPUs, views would share the donated buffers."""
  return {
    name: np.array(x) for name, x in flatten(jax.device_get(tree)).items()
  }


def zeros(target: chex.ArrayTree) -> Arrays:
  """Returns arrays of zeros with the names, shapes and dtypes of a pytree."""
  return {
    name: np.zeros(x.shape, x.dtype) for name, x in flatten(target).items()
  }


def unflatten(arrays: Arrays, target: chex.ArrayTree) -> chex.ArrayTree:
  """Returns a pytree structured like `target` with the leaves in `arrays`."""
  return jax.tree.unflatten(
    jax.tree.structure(target), [arrays[name] for name in flatten(target)]
  )


def make(
  arrays: Arrays,
  *,
  step: int,
  metrics: dict[str, float],
  config: Settings | None,
  dataset: dataset_lib.Dataset | None,
) -> dict[str, Any]:
  """Builds the JSON of a manifest: a `Manifest` with its own SHA-256."""
  with futures.ThreadPoolExecutor() as pool:  # hashing releases the GIL
    digests = pool.map(_sha256, arrays.values())
    leaves: dict[str, Leaf] = {
      name: {'shape': list(x.shape), 'dtype': x.dtype.name, 'sha256': digest}
      for (name, x), digest in zip(arrays.items(), digests, strict=True)
    }
  body: Manifest = {
    'step': step,
    'metrics': metrics,
    'config': config,
    'dataset': dataset,
    'leaves': leaves,
  }
  return {**body, 'sha256': _json_sha256(body)}


def parse(text: str | bytes) -> Manifest:
  """Reads the JSON of a manifest.

  Raises:
    DamagedError: the text is not what `make` returned.
  """
  try:
    manifest = files.parse_json(text)
  except ValueError as error:
    raise DamagedError(f'its manifest cannot be read ({error})') from error
  if not (isinstance(manifest, dict) and 'sha256' in manifest):
    raise DamagedError('its manifest has no SHA-256')
  if manifest.pop('sha256') != _json_sha256(manifest):
    raise DamagedError('its manifest does not match its own SHA-256')
  manifest.setdefault('dataset', None)
  if not _is_manifest(manifest):
    raise DamagedError('its manifest does not describe a checkpoint')
  return manifest


def _is_manifest(value: dict[str, Any]) -> TypeGuard[Manifest]:
  step, metrics = value.get('step'), value.get('metrics')
  config, leaves = value.get('config'), value.get('leaves')
  return (
    type(step) is int
    and step >= 0
    and isinstance(config, dict | None)
    and isinstance(metrics, dict)
    and all(type(x) in (int, float) for x in metrics.values())
    and isinstance(leaves, dict)
    and all(map(_is_leaf, leaves.values()))
    and (value['dataset'] is None or dataset_lib.is_dataset(value['dataset']))
  )


def _is_leaf(value: Any) -> TypeGuard[Leaf]:
  return (
    isinstance(value, dict)
    and isinstance(value.get('shape'), list)
    and all(type(n) is int and n >= 0 for n in value['shape'])
    and isinstance(value.get('dtype'), str)
    and isinstance(value.get('sha256'), str)
  )


def verify(arrays: Arrays, leaves: Mapping[str, Leaf]) -> None:
  """Compares arrays with their descriptions.

  Args:
    arrays: the arrays that were read.
    leaves: the entries of a manifest's 'leaves' with the same names.

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


def mismatches(target: chex.ArrayTree, leaves: Mapping[str, Leaf]) -> list[str]:
  """Describes every array of a checkpoint that does not fit a train state.

  Args:
    target: the state to restore into; only names, shapes and dtypes matter.
    leaves: a manifest's 'leaves'.

  Returns:
    One phrase per array, sorted by name; [] if the checkpoint fits.
  """
  wanted = {
    name: f'{np.dtype(x.dtype).name}{list(x.shape)}'
    for name, x in flatten(target).items()
  }
  found = {
    stable_name(name): f'{leaf["dtype"]}{leaf["shape"]}'
    for name, leaf in leaves.items()
  }
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
