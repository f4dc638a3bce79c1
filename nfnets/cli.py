"""Runs the main function of a program: its errors and its exit status."""

import importlib
import os
import sys
from collections.abc import Callable

from nfnets import errors
from nfnets.runtime import allocator


def run(main: Callable[[], int | None]) -> None:
  """Runs `main` and exits with its status.

  The process may restart itself once, with faster memory settings
  (`allocator.keep_freed_memory`).

  Args:
    main: the program; returns its exit status (None means 0).

  Raises:
    SystemExit: always. The status is 1 after a `UserError`, which is printed
      on stderr in one line without a traceback; 130 after Ctrl-C; otherwise
      the one that `main` returns.
  """
  allocator.keep_freed_memory()
  try:
    status = main() or 0
    sys.stdout.flush()
  except errors.UserError as error:
    print(f'error: {error}', file=sys.stderr)
    status = 1
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    status = 130
  except BrokenPipeError:
    # The reader (head, less) closed the pipe, which is not an error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    status = 0
  sys.exit(status)


def run_program(module: str) -> None:
  """Runs the `main` of a module that the caller must not import.

  Args:
    module: the module's full name, such as 'nfnets.experiment.preview'.

  Raises:
    SystemExit: always, see `run`.
  """
  run(lambda: importlib.import_module(module).main())
