"""Where prepared data and indices are kept between runs."""

import os
import pathlib


def cache_dir() -> pathlib.Path:
  """`$XDG_CACHE_HOME/nfnets`, or `~/.cache/nfnets`; not made here."""
  root = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return pathlib.Path(root) / 'nfnets'
