"""Prepares the embedded data set on first use."""

import contextlib
import io
import os
import pathlib
import tempfile

from nfnets import errors

_VERSION = '1.0.0'


def prepare(data_dir: pathlib.Path) -> pathlib.Path:
  """Prepares the digits in `data_dir`, unless they are already there.

  The files are written to a temporary folder, which is then renamed. Several
  processes can therefore do this concurrently, and may be killed meanwhile.

  Args:
    data_dir: a folder for TFDS data sets; created if it does not exist.

  Returns:
    The folder of the prepared data set.

  Raises:
    UserError: the folder cannot be written.
  """
  target = data_dir / 'digits' / _VERSION
  if os.path.isdir(target):
    return target
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
      dir=data_dir, prefix='.digits-'
    ) as scratch:
      _move(_prepare_in(scratch), target)
  except OSError as error:
    raise errors.UserError(
      f'cannot prepare the digits in {data_dir}: {error.strerror}; set data_dir'
      ' or XDG_CACHE_HOME to another folder'
    ) from error
  return target


def _prepare_in(scratch: str) -> str:
  import tensorflow_datasets as tfds

  from nfnets.data.digits import digits_dataset_builder

  tfds.disable_progress_bar()
  builder = digits_dataset_builder.Builder(
    data_dir=scratch, file_format='array_record'
  )
  # TFDS announces a download on stdout, although there is none.
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare()
  return str(builder.data_dir)


def _move(prepared: str, target: pathlib.Path) -> None:
  try:
    os.rename(prepared, target)
  except OSError:
    if not target.is_dir():  # Otherwise another process was faster.
      raise
