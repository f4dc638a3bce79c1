"""A progress bar on a terminal, plain lines elsewhere, nothing if quick."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar('T')

_QUIET_SECONDS = 2.0
_LINE_SECONDS = 30.0


def track(items: Iterable[T], total: int, what: str, unit: str) -> Iterator[T]:
  """Yields the items; says on stderr how far they are if they take a while.

  Args:
    items: what is gone through.
    total: their number.
    what: is being done.
    unit: what the items are.

  Yields:
    The items.
  """
  if sys.stderr.isatty():
    import rich.console
    import rich.progress

    console = rich.console.Console(stderr=True)
    yield from rich.progress.track(
      items, what, total, console=console, transient=True
    )
    return
  say_at = time.monotonic() + _QUIET_SECONDS
  for done, item in enumerate(items):
    if time.monotonic() >= say_at:
      print(f'{what}: {done} of {total} {unit}', file=sys.stderr, flush=True)
      say_at = time.monotonic() + _LINE_SECONDS
    yield item
