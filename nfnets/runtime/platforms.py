"""The platform that JAX runs on: cpu, cuda, tpu, ..."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator

import jax

from nfnets import errors

_log = logging.getLogger(__name__)
# JAX's advice, which it appends to its message.
_ADVICE = re.compile(r'\.? \((?:set|you may need to) .*')


def check() -> None:
  """Starts JAX's platform: one that is missing becomes an error of one line.

  JAX would start it on first use, and report a missing one by various
  exceptions. With several processes, use `distributed.connected` first.

  Raises:
    UserError: the platform that JAX_PLATFORMS specifies cannot start, or an
      installed plugin of JAX cannot.
  """
  try:
    with _plugin_errors() as failed:
      jax.devices()
  except (RuntimeError, AssertionError) as error:
    # Without an NVIDIA GPU or its driver, JAX skips CUDA. If JAX_PLATFORMS
    # allows nothing else, an assertion without a message fails.
    reason = failed[0] if failed else str(error) or 'no such device'
    reason = _ADVICE.sub('', _first_line(reason))
    raise _cannot_start(reason.rstrip('.')) from error
  for reason in failed:
    _log.warning(
      '%s: using %s instead', reason.rstrip('.'), jax.default_backend()
    )


@contextlib.contextmanager
def _plugin_errors() -> Iterator[list[str]]:
  """Collects the errors of JAX's plugins, instead of tracebacks on stderr."""
  reasons: list[str] = []

  def collect(record: logging.LogRecord) -> bool:
    error = record.exc_info and record.exc_info[1]
    if not error:
      return True
    reasons.append(f'{record.getMessage()}: {_first_line(str(error))}')
    return False

  logger = logging.getLogger('jax._src.xla_bridge')
  logger.addFilter(collect)
  try:
    yield reasons
  finally:
    logger.removeFilter(collect)


def _first_line(text: str) -> str:
  return text.strip().partition('\n')[0][:300]


def _cannot_start(reason: str) -> errors.UserError:
  settings = ' '.join(
    f'{name}={value}'
    for name in ('JAX_PLATFORMS', 'JAX_PLATFORM_NAME')
    if (value := os.environ.get(name))
  )
  if not settings:
    return errors.UserError(
      f'JAX cannot start ({reason}): fix the driver or the installation, or'
      ' set JAX_PLATFORMS=cpu'
    )
  return errors.UserError(
    f'{settings} cannot be used here ({reason}): unset it, and JAX chooses'
    ' among the devices that it finds; or install JAX for another platform,'
    ' such as with NFNETS_PLATFORM=cuda12 ./run.sh setup'
  )
