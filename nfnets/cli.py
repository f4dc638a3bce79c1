"""Runs the main function of a program: its errors and its exit status."""

import importlib
import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from nfnets import errors
from nfnets.runtime import allocator

if TYPE_CHECKING:
  from _typeshed import ReadableBuffer


def run(main: Callable[[], int | None]) -> None:
  """Runs `main` and exits with its status.

  The process may restart itself once, with faster memory settings
  (`allocator.keep_freed_memory`).

  Args:
    main: the program; returns its exit status (None means 0).

  Raises:
    SystemExit: always. The status is 1 after a `UserError`, which is printed
      on stderr in one line without a traceback; 130 after Ctrl-C; 1 if output
      was lost, such as on a full disk; otherwise the one that `main` returns.
  """
  allocator.keep_freed_memory()
  _open_standard_files()
  output = _guard('stdout', 1)
  _guard('stderr', 2)
  status = _status(main)
  sys.stdout.flush()
  # The reader of a pipe (head, less) may close it, which is not an error.
  if output.error and not isinstance(output.error, BrokenPipeError):
    print(
      f'error: stdout cannot be written ({output.error.strerror}), so output'
      ' was lost: free some space, or redirect it to another file',
      file=sys.stderr,
    )
    status = status or 1
  sys.exit(status)


def run_program(module: str) -> None:
  """Runs the `main` of a module that the caller must not import.

  Args:
    module: the module's full name, such as 'nfnets.experiment.preview'.

  Raises:
    SystemExit: always, see `run`.
  """
  run(lambda: importlib.import_module(module).main())


def _status(main: Callable[[], int | None]) -> int | str:
  """Runs `main`, prints its errors and returns the exit status."""
  try:
    if sys.flags.optimize:
      raise errors.UserError(
        'Python runs with -O or PYTHONOPTIMIZE, which removes assertions that'
        ' Haiku needs: run it without'
      )
    return main() or 0
  except SystemExit as end:  # from argparse, after --help and usage errors
    return end.code or 0
  except errors.UserError as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    return 130


class _Output(io.FileIO):
  """A standard stream that drops what it cannot write.

  A full disk under a log, or a terminal that is gone, must not end a run in
  training: its metrics and checkpoints are in the workdir. The program
  continues, and reports the loss when it ends.

  Attributes:
    error: the first error, if any.
  """

  error: OSError | None = None

  def write(self, data: 'ReadableBuffer', /) -> int:
    """Writes the data, or drops all of it."""
    try:
      return super().write(data)
    except OSError as error:
      self.error = self.error or error
      return memoryview(data).nbytes


def _open_standard_files() -> None:
  """Opens /dev/null as each standard stream that the caller has closed.

  Otherwise the next file to be opened, such as a checkpoint, would become
  stdout or stderr, and libraries print there.
  """
  for descriptor in range(3):
    try:
      os.fstat(descriptor)
    except OSError:
      # The system chooses the lowest free number, which is this one.
      os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _guard(name: str, descriptor: int) -> _Output:
  """Makes `sys.stdout` or `sys.stderr` an `_Output`, and returns that.

  Leaves a stream as it is that something else has replaced, such as pytest.
  Characters that the encoding does not have are escaped: a name in another
  script must not end a program whose output is ASCII.
  """
  output = _Output(descriptor, 'w', closefd=False)
  stream = getattr(sys, name)
  if stream is None or stream is getattr(sys, f'__{name}__'):
    stream = stream or open(descriptor, 'w', closefd=False)
    # With PYTHONUNBUFFERED, nothing else would empty a buffer.
    buffer = output if stream.write_through else io.BufferedWriter(output)
    guarded = io.TextIOWrapper(
      buffer,
      encoding=stream.encoding,
      errors='backslashreplace',
      line_buffering=stream.line_buffering,
      write_through=stream.write_through,
    )
    setattr(sys, name, guarded)
  return output
