"""The one exception class for what a user can get wrong."""


class UserError(ValueError):
  """A mistake that the user can mend.

  The message is one line and names the offending value, the place where it
  was found and the remedy. Entry points print it without a traceback and exit
  with status 1 (see `nfnets.cli.run`).
  """
