"""Devices and processes: joining, placing arrays, agreeing.

Rules for several processes: each runs the same program; each feeds its own
contiguous slice of the global batch; process 0 alone prints and touches the
workdir.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from nfnets import errors


class Batches(Protocol):
  """What training needs of the data pipeline."""

  def iterate(self, start: int = 0) -> Any:
    """An iterator from batch `start` on, with a method `close`."""


def is_primary() -> bool:
  """Whether this process prints and touches the disk."""
  return jax.process_index() == 0


def steps_in_flight() -> int:
  """How many steps may be dispatched before the oldest is waited for.

  Enough that the devices never wait for the host, few enough that the batches
  fit. None between processes on CPU, where collectives that pile up
  dead-lock.
  """
  several = jax.process_count() > 1 and jax.default_backend() == 'cpu'
  return 0 if several else 2


def barrier(name: str) -> None:
  """Waits until every process is here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def check_same(text: str, what: str) -> None:
  """Refuses to start when processes differ in `text`.

  Args:
    text: what must be the same everywhere, such as the resolved config.
    what: its name in the message.

  Raises:
    UserError: some process has another text.
  """
  if jax.process_count() == 1:
    return
  digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
  digests = multihost_utils.process_allgather(digest)
  differ = [i for i, other in enumerate(digests) if (other != digests[0]).any()]
  if differ:
    raise errors.UserError(
      f'{what} of process {differ} is not that of process 0: start every '
      'process with the same code, config file and flags'
    )


def replicate(tree: Any) -> Any:
  """Puts a whole copy of each array on every local device.

  Place the state with this once, before the first step: arrays that come in
  otherwise make the step compile twice and cannot be donated.
  """
  return jax.device_put(tree, _sharding(PartitionSpec()))


def shard_batch(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
  """Splits this process's rows between its devices, and numbers them.

  Args:
    batch: of the pipeline, arrays [b, ...]: this process's contiguous slice of
      the global batch.

  Returns:
    Arrays [local devices, b / local devices, ...] on the devices, and 'index',
    int32: each row's place in the global batch. It travels with the rows, so
    that it is right whatever order the devices are in.

  Raises:
    ValueError: the local devices do not divide b.
  """
  size = len(batch['label'])
  local = jax.local_device_count()
  if size % local:
    raise ValueError(f'{local} local devices do not divide {size} rows')
  index = np.arange(size, dtype=np.int32) + np.int32(jax.process_index() * size)
  rows = {**batch, 'index': index}
  return jax.device_put(
    {k: x.reshape((local, -1) + x.shape[1:]) for k, x in rows.items()},
    _sharding(PartitionSpec('devices')),
  )


def pad_batch(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Adds zero rows (mask False) up to a multiple of the local devices."""
  missing = -len(batch['label']) % jax.local_device_count()
  if not missing:
    return batch
  return {
    k: np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
    for k, x in batch.items()
  }


def ahead(
  batches: Iterable[dict[str, np.ndarray]],
) -> Iterator[dict[str, jax.Array]]:
  """Yields sharded batches, each put on its way one step early.

  Copies to the devices are asynchronous: while the devices work on a step, the
  next batch travels. The pipeline has its own threads for what comes before.
  """
  waiting = None
  for batch in batches:
    batch = shard_batch(batch)
    if waiting is not None:
      yield waiting
    waiting = batch
  if waiting is not None:
    yield waiting


def _sharding(spec: PartitionSpec) -> NamedSharding:
  mesh = Mesh(np.array(jax.local_devices()), ('devices',))
  return NamedSharding(mesh, spec)


def broadcast_text(text: str) -> str:
  """The text of process 0, in every process."""
  if jax.process_count() == 1:
    return text
  data = np.frombuffer(text.encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
  mine = data if is_primary() else np.zeros(size, np.uint8)
  return (
    np.asarray(multihost_utils.broadcast_one_to_all(mine)).tobytes().decode()
  )


def broadcast_arrays(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The arrays of process 0, in every process, to the bit.

  Args:
    arrays: of the same names, shapes and dtypes everywhere.
  """
  if jax.process_count() == 1:
    return arrays
  # As bytes: JAX sums over the processes, which would turn -0.0 into 0.0.
  data = {
    k: np.ascontiguousarray(x).reshape(-1).view(np.uint8)
    for k, x in arrays.items()
  }
  data = multihost_utils.broadcast_one_to_all(data)
  return {
    k: np.asarray(data[k]).view(x.dtype).reshape(x.shape)
    for k, x in arrays.items()
  }
