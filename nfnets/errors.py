"""Errors that the user can fix, and names that are safe to print."""

import difflib
import re
from collections.abc import Iterable, Sequence

# Control characters, among them those that move a terminal's cursor or end a
# line; characters that reverse the direction of text; bytes of file names that
# are not UTF-8, which Python keeps as surrogates and cannot print.
_UNSAFE = re.compile(
  r'[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]'
)


class UserError(ValueError):
  """An error that the user can fix.

  The message is one line with the offending value, where it was found and how
  to fix it. Entry points print it without a traceback and exit with status 1
  (see `nfnets.cli.run`).
  """

  def __str__(self) -> str:
    """Returns the message, which may contain names of files and classes."""
    return printable(super().__str__())


def printable(text: str) -> str:
  """Escapes what must not reach a terminal, such as line breaks and ESC.

  Names of files and classes may come from untrusted archives and weights files,
  so they pass through here before they are printed.

  Args:
    text: one line.
  """
  return _UNSAFE.sub(
    lambda match: match[0].encode('unicode_escape').decode(), text
  )


def nearest(name: str, known: Iterable[str]) -> str | None:
  """Returns the known name most similar to `name`; None if none is similar.

  Args:
    name: an unknown name, in upper or lower case.
    known: the known names.
  """
  folded = {other.casefold(): other for other in known}
  near = difflib.get_close_matches(name.casefold(), folded, n=1)
  return folded[near[0]] if near else None


def hint(name: str, known: Iterable[str]) -> str:
  """Returns ', did you mean ...?' with the nearest known name, or ''.

  Args:
    name: an unknown name.
    known: the known names.
  """
  near = nearest(name, known)
  return f', did you mean {near!r}?' if near else ''


def listed(names: Sequence[str], most: int) -> str:
  """Returns 'a, b, c', or 'a, b, ...' if there are more than `most` names."""
  return ', '.join(names[:most]) + (', ...' if names[most:] else '')
