"""The exception for errors that the user can fix."""


class UserError(ValueError):
  """An error that the user can fix.

  The message is one line with the offending value, where it was found and how
  to fix it. Entry points print it without a traceback and exit with status 1
  (see `nfnets.cli.run`).
  """
