"""Reads the arrays and the metadata of a checkpoint with Orbax."""

import functools
import logging
import pathlib
import sys
from collections.abc import Mapping

import jax
import numpy as np
import orbax.checkpoint as ocp

from nfnets import errors
from nfnets.training import manifest as manifest_lib


def check_metadata(path: pathlib.Path) -> None:
  """Reads a checkpoint's metadata as Orbax does for each one before a save.

  Args:
    path: the checkpoint's directory.

  Raises:
    Exception: the metadata are damaged; Orbax's errors have no common base.
  """
  with _reader() as reader:
    reader.metadata(path)


def read(
  path: pathlib.Path, leaves: Mapping[str, manifest_lib.Leaf]
) -> manifest_lib.Arrays:
  """Reads arrays of a checkpoint and verifies them.

  Args:
    path: the checkpoint's directory.
    leaves: the entries of its manifest's 'leaves' to read.

  Returns:
    The arrays by their stable names.

  Raises:
    DamagedError: an array is not what was written.
    UserError: the arrays do not fit in memory.
  """
  item = {name: 0 for name in leaves}
  how = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in leaves}
  args = ocp.args.PyTreeRestore(
    item=item, restore_args=how, partial_restore=True
  )
  try:
    with _reader() as reader:
      _check_shapes(reader.metadata(path / 'state').item_metadata, leaves)
      arrays = reader.restore(path / 'state', args=args)
    arrays = {name: np.asarray(x) for name, x in arrays.items()}
  except MemoryError as error:
    raise errors.UserError(
      f'checkpoint {path} does not fit in memory: free some, and rerun the same'
      ' command'
    ) from error
  except Exception as error:  # Orbax's errors have no common base
    reason = ' '.join(str(error).split())[:200]
    raise manifest_lib.DamagedError(f'its arrays: {reason}') from error
  manifest_lib.verify(arrays, leaves)
  return {manifest_lib.stable_name(name): x for name, x in arrays.items()}


def _check_shapes(
  found: Mapping[str, ocp.metadata.ArrayMetadata],
  leaves: Mapping[str, manifest_lib.Leaf],
) -> None:
  """Raises an error for an array that would take more memory than it should."""
  for name, leaf in leaves.items():
    shape, chunk = found[name].shape, found[name].storage.chunk_shape
    if list(shape) != leaf['shape']:
      raise ValueError(f'{name} has shape {list(shape)}')
    sides = zip(chunk, shape, strict=True)
    if any(part > max(size, 1) for part, size in sides):
      raise ValueError(f'{name} is stored in chunks of {list(chunk)}')


def this_process_only() -> ocp.options.MultiprocessingOptions:
  """Keeps Orbax from waiting for other processes."""
  own = jax.process_index()
  return ocp.options.MultiprocessingOptions(own, {own})


def _reader() -> ocp.Checkpointer:
  hush_orbax()
  own = this_process_only()
  handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=own)
  return ocp.Checkpointer(handler, multiprocessing_options=own)


@functools.cache
def hush_orbax() -> None:
  """Keeps Orbax's tracebacks off the terminal; its errors are raised anyway.

  Orbax logs each error of its threads. After the first bad array it also closes
  the event loop that its other reads and writes still report to, and asyncio
  logs those that nothing waits for.
  """
  logger = logging.getLogger('absl')
  logger.addFilter(lambda record: 'orbax' not in record.pathname)
  logging.getLogger('asyncio').addFilter(
    lambda record: 'exception was never retrieved' not in record.getMessage()
  )
  previous = sys.unraisablehook

  def hook(unraisable: 'sys.UnraisableHookArgs') -> None:
    if 'Event loop is closed' not in str(unraisable.exc_value):
      previous(unraisable)

  sys.unraisablehook = hook
