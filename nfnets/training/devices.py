"""Devices and processes: arrays onto devices, agreement between processes.

With several processes, each runs the same program and feeds its own contiguous
slice of the global batch; process 0 alone prints and writes to the workdir.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypedDict, TypeVar

import chex
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from nfnets import errors

# The axis of a batch that is split over the devices.
AXIS = 'devices'

Tree = TypeVar('Tree', bound=chex.ArrayTree)


class Batch(TypedDict):
  """One process's slice of a global batch on the host, b rows."""

  image: np.ndarray  # uint8[b, S, S, 3]
  label: np.ndarray  # int32[b]
  mask: np.ndarray  # bool[b], False for padding


class DeviceBatch(TypedDict):
  """One process's slice on its d devices; each device sees its [b / d, ...]."""

  image: jax.Array  # uint8[d, b / d, S, S, 3]
  label: jax.Array  # int32[d, b / d]
  mask: jax.Array  # bool[d, b / d]
  index: jax.Array  # int32[d, b / d], the row's index in the global batch


class BatchStream(Protocol):
  """An iterator over batches that can be closed."""

  def __iter__(self) -> Iterator[Batch]:
    """Returns the iterator over batches."""

  def close(self) -> None:
    """Stops producing batches."""


class Batches(Protocol):
  """A data pipeline, as training and evaluation use it."""

  def iterate(self, start: int = 0) -> BatchStream:
    """Returns the batches from number `start` on."""


def is_primary() -> bool:
  """Returns whether this process prints and writes to disk."""
  return jax.process_index() == 0


def steps_in_flight() -> int:
  """Returns how many steps to dispatch before waiting for the oldest.

  Enough to keep the devices from waiting for the host, and few enough that the
  batches fit in memory. 0 with several processes on CPU, where collectives that
  pile up deadlock.
  """
  several = jax.process_count() > 1 and jax.default_backend() == 'cpu'
  return 0 if several else 2


def barrier(name: str) -> None:
  """Waits until every process has reached this point."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def check_same(text: str, what: str) -> None:
  """Checks that all processes have the same `text`.

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
      f'{what} of process {differ} differs from that of process 0: start every '
      'process with the same code, config file and flags'
    )


def replicate(tree: Tree) -> Tree:
  """Puts a copy of each array on every local device.

  Place the state with this once, before the first step: with arrays placed
  otherwise the step compiles twice and cannot donate them.
  """
  return jax.device_put(tree, _sharding(PartitionSpec()))


def shard_batch(batch: Batch) -> DeviceBatch:
  """Splits this process's rows over its devices and numbers them.

  The index travels with each row, so it is right for any order of devices.

  Args:
    batch: this process's contiguous slice of the global batch.

  Returns:
    The rows on the devices, with their indices in the global batch.

  Raises:
    ValueError: the number of rows is not a multiple of the local devices.
  """
  size = len(batch['label'])
  local = jax.local_device_count()
  if size % local:
    raise ValueError(f'{local} local devices do not divide {size} rows')
  index = np.arange(size, dtype=np.int32) + np.int32(jax.process_index() * size)
  rows = jax.tree.map(
    lambda x: x.reshape((local, -1) + x.shape[1:]), {**batch, 'index': index}
  )
  return jax.device_put(rows, _sharding(PartitionSpec(AXIS)))


def pad_batch(batch: Batch) -> Batch:
  """Adds zero rows (mask False) up to a multiple of the local devices."""
  missing = -len(batch['label']) % jax.local_device_count()
  if not missing:
    return batch
  return jax.tree.map(
    lambda x: np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)), batch
  )


def ahead(batches: Iterable[Batch]) -> Iterator[DeviceBatch]:
  """Yields sharded batches, sending each to the devices one step early.

  Copies to the devices are asynchronous: while the devices run a step, the
  next batch is copied. The pipeline prepares batches in its own threads.
  """
  waiting: DeviceBatch | None = None
  for batch in batches:
    sent = shard_batch(batch)
    if waiting is not None:
      yield waiting
    waiting = sent
  if waiting is not None:
    yield waiting


def like_replicated(
  tree: Tree, targets: Sequence[jax.Device] | None = None
) -> Tree:
  """Returns what stands for `replicate(tree)` in the `lower` of a program.

  Args:
    tree: pytree of arrays or of their shapes, such as from `jax.eval_shape`.
    targets: devices of a topology; None: those of this process.
  """
  sharding = _sharding(PartitionSpec(), targets)
  return jax.tree.map(lambda x: _stand_in(x.shape, x.dtype, sharding), tree)


def like_batch(
  rows: int, image_size: int, targets: Sequence[jax.Device] | None = None
) -> DeviceBatch:
  """Returns what stands for `shard_batch(batch)` in the `lower` of a program.

  Args:
    rows: images on each device.
    image_size: height and width of the images, pixels.
    targets: devices of a topology; None: those of this process.
  """
  sharding = _sharding(PartitionSpec(AXIS), targets)
  shape = sharding.mesh.size, rows
  return {
    'image': _stand_in((*shape, image_size, image_size, 3), 'uint8', sharding),
    'label': _stand_in(shape, 'int32', sharding),
    'mask': _stand_in(shape, 'bool', sharding),
    'index': _stand_in(shape, 'int32', sharding),
  }


def _stand_in(
  shape: Sequence[int], dtype: DTypeLike, sharding: NamedSharding
) -> jax.Array | jax.ShapeDtypeStruct:
  if jax.process_count() == 1:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
  # With several processes, pmap lowers only for arrays.
  return jax.device_put(np.zeros(shape, dtype), sharding)


def _sharding(
  spec: PartitionSpec, targets: Sequence[jax.Device] | None = None
) -> NamedSharding:
  local = jax.local_devices() if targets is None else targets
  return NamedSharding(Mesh(np.array(local), (AXIS,)), spec)


def smallest(value: int) -> int:
  """Returns the smallest of all processes' values, to 7 digits."""
  if jax.process_count() == 1:
    return value
  # JAX has no 64-bit integers; bytes of memory need not be exact.
  values = multihost_utils.process_allgather(np.float32(value))
  return int(values.min())


def of_primary(decision: bool) -> bool:
  """Returns the decision of process 0 in every process."""
  return broadcast_text('yes' if decision else 'no') == 'yes'


def broadcast_text(text: str) -> str:
  """Returns the text of process 0 in every process."""
  if jax.process_count() == 1:
    return text
  data = np.frombuffer(text.encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
  mine = data if is_primary() else np.zeros(size, np.uint8)
  return (
    np.asarray(multihost_utils.broadcast_one_to_all(mine)).tobytes().decode()
  )


def broadcast_arrays(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the arrays of process 0, bit for bit, in every process.

  Args:
    arrays: arrays with the same names, shapes and dtypes in every process.
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
