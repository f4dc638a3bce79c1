"""timm's files from the Hugging Face hub, by id."""

import pathlib
import re
import urllib.error
import urllib.request

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub import errors as hub_errors

from nfnets import errors

_ID = re.compile(r'(?:hf[-_]hub:(?=[^/]+/)|(?=timm/))([\w.-]+/([\w-]+)[\w.-]*)')
_FILE = 'model.safetensors'
_SECONDS = 10.0  # for the hub to answer


def model_name(name: str) -> str | None:
  """The model name of timm in an id of the hub; None if it is no such id.

  Args:
    name: such as 'timm/dm_nfnet_f0.dm_in1k' or, for other owners,
      'hf-hub:owner/model.tag'.

  Returns:
    'dm_nfnet_f0' for the example.
  """
  match = _ID.fullmatch(name)
  return match[2] if match else None


def fetch(name: str) -> pathlib.Path:
  """The file of weights of a model of the hub, downloaded once.

  Args:
    name: an id that `model_name` knows.

  Returns:
    The file in the hub's own cache.

  Raises:
    UserError: it is not in the cache and cannot be downloaded.
  """
  match = _ID.fullmatch(name)
  if not match:
    raise ValueError(f'{name!r} is no id of the hub')
  try:
    return _download(match[1], only_cached=True)
  except hub_errors.LocalEntryNotFoundError:
    _check_connection(match[1])
  try:
    return _download(match[1], only_cached=False)
  except (hub_errors.HfHubHTTPError, ValueError, OSError) as error:
    raise _failed(match[1], error) from None


def _download(repository: str, *, only_cached: bool) -> pathlib.Path:
  path = huggingface_hub.hf_hub_download(
    repository, _FILE, local_files_only=only_cached
  )
  return pathlib.Path(path)


def _check_connection(repository: str) -> None:
  """Fails at once where the hub's own client tries for half a minute."""
  request = urllib.request.Request(constants.ENDPOINT, method='HEAD')
  try:
    urllib.request.urlopen(request, timeout=_SECONDS).close()
  except urllib.error.HTTPError:
    return  # It answered.
  except OSError as error:
    raise _failed(repository, error) from None


def _failed(repository: str, error: Exception) -> errors.UserError:
  reason = str(error).strip().split('\n')[0][:120] or type(error).__name__
  return errors.UserError(
    f'{repository}: not in the cache of the Hugging Face hub and not '
    f'downloaded ({reason}); connect to the network, or give a file'
  )
