"""Reads folders as they are on the Hugging Face hub.

A snapshot of one of timm's models has the weights in `model.safetensors`, and
its architecture and class names in `config.json`.
"""

import pathlib
from typing import NamedTuple

from nfnets import errors, files

WEIGHTS = 'model.safetensors'
_CONFIG = 'config.json'


class Snapshot(NamedTuple):
  """What a folder of the hub contains."""

  weights: pathlib.Path
  architecture: str | None  # timm's name of the model
  class_names: tuple[str, ...]  # empty if unknown


def read(folder: pathlib.Path) -> Snapshot | None:
  """Reads a folder's description.

  Args:
    folder: any folder.

  Returns:
    The snapshot; None if the folder has no weights of this form.

  Raises:
    UserError: the weights are in several files, or config.json is damaged.
  """
  weights = folder / WEIGHTS
  index = folder / f'{WEIGHTS}.index.json'
  if index.is_file() and not weights.is_file():
    raise errors.UserError(
      f'{folder}: its weights are in several files ({index.name}); merge them'
      f' into one {WEIGHTS}'
    )
  if not weights.is_file():
    return None
  config = _read_config(folder / _CONFIG)
  architecture = config.get('architecture')
  return Snapshot(
    weights,
    architecture if isinstance(architecture, str) else None,
    _class_names(config),
  )


def _read_config(path: pathlib.Path) -> dict[str, object]:
  """Returns config.json's entries; {} if there is none."""
  if not path.is_file():
    return {}
  try:
    config = files.read_json(path)
  except (OSError, ValueError) as error:
    raise errors.UserError(
      f'{path}: is not readable JSON ({str(error):.80}); download it again, or'
      f' pass {WEIGHTS} itself'
    ) from None
  return config if isinstance(config, dict) else {}


def _class_names(config: dict[str, object]) -> tuple[str, ...]:
  """Returns `label_names`, which timm keeps in either of two places."""
  for place in (config, config.get('pretrained_cfg')):
    names = place.get('label_names') if isinstance(place, dict) else None
    if isinstance(names, list) and all(isinstance(n, str) for n in names):
      return tuple(names)
  return ()
