"""Downloads timm's weights from the Hugging Face hub."""

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
_TIMEOUT = 10.0  # seconds


def model_name(hub_id: str) -> str | None:
  """Returns timm's model name in a hub id.

  Args:
    hub_id: such as 'timm/dm_nfnet_f0.dm_in1k' or, for other owners,
      'hf-hub:owner/model.tag'.

  Returns:
    'dm_nfnet_f0' and 'model' for these examples; None if it is not a hub id.
  """
  match = _ID.fullmatch(hub_id)
  return match[2] if match else None


def fetch(hub_id: str) -> pathlib.Path:
  """Returns the weights file of a model, downloading it on first use.

  Args:
    hub_id: an id that `model_name` accepts.

  Returns:
    The file in the cache of huggingface_hub.

  Raises:
    ValueError: it is not a hub id.
    UserError: the file is not cached and cannot be downloaded.
  """
  match = _ID.fullmatch(hub_id)
  if not match:
    raise ValueError(
      f'{hub_id!r} is not a hub id such as timm/dm_nfnet_f0.dm_in1k'
    )
  try:
    return _download(match[1], only_cached=True)
  except hub_errors.LocalEntryNotFoundError:
    if constants.is_offline_mode():
      raise _failed(match[1], 'HF_HUB_OFFLINE is set') from None
    _check_connection(match[1])
  try:
    return _download(match[1], only_cached=False)
  except (hub_errors.HfHubHTTPError, ValueError, OSError) as error:
    raise _failed(match[1], _reason(error)) from None


def _download(repository: str, *, only_cached: bool) -> pathlib.Path:
  path = huggingface_hub.hf_hub_download(
    repository, _FILE, local_files_only=only_cached
  )
  return pathlib.Path(path)


def _check_connection(repository: str) -> None:
  """Fails fast without a network; huggingface_hub retries for 30 seconds."""
  request = urllib.request.Request(constants.ENDPOINT, method='HEAD')
  try:
    urllib.request.urlopen(request, timeout=_TIMEOUT).close()
  except urllib.error.HTTPError:
    return  # An error status still proves that the hub is reachable.
  except OSError as error:
    raise _failed(repository, _reason(error)) from None


def _reason(error: Exception) -> str:
  return str(error).strip().split('\n')[0][:120] or type(error).__name__


def _failed(repository: str, reason: str) -> errors.UserError:
  return errors.UserError(
    f'{repository}: not in the Hugging Face cache, and the download failed'
    f' ({reason}); connect to the network, or download'
    f' {constants.ENDPOINT}/{repository}/resolve/main/{_FILE} elsewhere and'
    ' pass the file: --config.init_from=FILE, or --weights=FILE'
  )
