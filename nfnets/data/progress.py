"""Progress: a bar on a terminal, lines elsewhere, nothing for quick work."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar('T')

_QUIET_SECONDS = 2.0
_LINE_SECONDS = 30.0


def track(items: Iterable[T], total: int, what: str, unit: str) -> Iterator[T]:
  """Yields the items, and prints progress on stderr if they take a while.

  Args:
    items: the items to process.
    total: the number of items.
    what: the activity, such as 'reading train'.
    unit: what the items are, such as 'images'.

  Yields:
    The items.
  """
  if sys.stderr.isatty():
    import rich.console
    import rich.progress

    # Warnings beside the bar are printed as they are.
    plain = {'markup': False, 'emoji': False, 'highlight': False}
    console = rich.console.Console(stderr=True, **plain)
    yield from rich.progress.track(
      items, what, total, console=console, transient=True
    )
    return
  print_at = time.monotonic() + _QUIET_SECONDS
  for done, item in enumerate(items):
    if time.monotonic() >= print_at:
      print(f'{what}: {done} of {total} {unit}', file=sys.stderr, flush=True)
      print_at = time.monotonic() + _LINE_SECONDS
    yield item
