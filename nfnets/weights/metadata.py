"""The metadata of our safetensors files.

It stores everything besides the arrays that affects the logits: the model's
name, its full configuration, and the constants that a runtime without this
package needs. safetensors metadata holds strings only, hence the JSON.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nfnets import errors, models
from nfnets import files as files_lib
from nfnets.layers import activations, squeeze_excite, ws_conv
from nfnets.models import catalogue, scaling
from nfnets.models import config as model_config
from nfnets.weights import files, tree

_FORMAT = 'nfnets 1'


class Header(NamedTuple):
  """The parsed metadata."""

  name: str  # the model
  options: tree.Options
  class_names: tuple[str, ...]
  images: dict[str, int]  # see `make`
  eval_preset: str  # see `data.crops.eval_crop`


def is_ours(metadata: Mapping[str, str]) -> bool:
  """Returns whether metadata was written by `make`."""
  return metadata.get('format', '').startswith('nfnets')


def make(
  config: model_config.ModelConfig,
  class_names: Sequence[str] = (),
  eval_preset: str | None = None,
  images: Mapping[str, int] | None = None,
) -> dict[str, str]:
  """Builds the metadata of a weights file.

  Args:
    config: the model's configuration.
    class_names: one name per class, or none.
    eval_preset: the preset of `data.crops.eval_crop` for test images. None
      selects the preset of the model's authors.
    images: the numbers of images that the network was trained and evaluated
      on, by 'train' and 'eval'.

  Returns:
    Strings: 'format', 'model', 'eval_preset' and, as JSON, 'options' (with
    which `create_model` rebuilds the configuration), 'config', 'constants',
    'class_names' and 'images'.
  """
  return {
    'format': _FORMAT,
    'model': config.name,
    'options': json.dumps(tree.options(config), sort_keys=True),
    'config': json.dumps(dataclasses.asdict(config), sort_keys=True),
    'constants': json.dumps(_constants(config), sort_keys=True),
    'class_names': json.dumps(list(class_names)),
    'images': json.dumps(dict(images or {}), sort_keys=True),
    'eval_preset': eval_preset or catalogue.eval_preset(config),
  }


def _constants(config: model_config.ModelConfig) -> dict[str, object]:
  """Returns the constants of the forward pass that no array holds."""
  return {
    'alpha': config.alpha,
    'beta': scaling.betas(config.depth, config.alpha),
    'gamma': activations.get(config.activation).gamma,
    'gamma_in': 'weights' if config.gamma_in_weights else 'activations',
    'epsilon_rule': config.ws_epsilon,
    'epsilon': (
      ws_conv.VARIANCE_FLOOR
      if config.ws_epsilon == 'floor'
      else ws_conv.VARIANCE_OFFSET
    ),
    'attention_gain': squeeze_excite.ATTENTION_GAIN,
  }


def parse(contents: files.Contents, path: str) -> Header:
  """Parses metadata written by `make`.

  Args:
    contents: the contents of a file whose metadata `is_ours`.
    path: the file's name, for messages.

  Returns:
    The model's name, options, class names, numbers of images and evaluation
    preset.

  Raises:
    UserError: the file was written by a newer version, is damaged, or stores
      options that no model has.
  """
  metadata = contents.metadata
  if not contents.verified:
    raise errors.UserError(
      f'{path}: is damaged: its SHA-256 is missing; download or write it again'
    )
  if metadata['format'] != _FORMAT:
    raise errors.UserError(
      f'{path}: has format {metadata["format"]!r:.40}, expected {_FORMAT!r};'
      ' reading it may require a newer nfnets'
    )
  try:
    stored = files_lib.parse_json(metadata['options'])
    if not isinstance(stored, dict):
      raise ValueError(f'its options are a {type(stored).__name__}')
    header = Header(
      metadata['model'],
      {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()},
      _class_names(files_lib.parse_json(metadata['class_names'])),
      # Files of older versions have none.
      _images(files_lib.parse_json(metadata.get('images', '{}'))),
      metadata['eval_preset'],
    )
    _check_model(header, len(contents.tensors))
  except (KeyError, ValueError) as error:  # UserError is a ValueError.
    missing = f'{error} is missing' if isinstance(error, KeyError) else error
    raise errors.UserError(
      f'{path}: its metadata cannot be used: {missing!s:.300}; write the file'
      ' again, or update nfnets if a newer version wrote it'
    ) from None
  return header


def _class_names(value: object) -> tuple[str, ...]:
  names = value if isinstance(value, list) else [value]
  if names is not value or not all(isinstance(name, str) for name in names):
    raise ValueError('its class names are not a list of strings')
  return tuple(names)


def _images(value: object) -> dict[str, int]:
  if not isinstance(value, dict) or not all(
    type(count) is int and count >= 0 for count in value.values()
  ):
    raise ValueError('its numbers of images are not a table of counts')
  return value


def _check_model(header: Header, num_tensors: int) -> None:
  """Checks that there is such a model.

  Raises:
    UserError: the name or an option is unknown, or an option is impossible.
    ValueError: the network has too many blocks for the file.
  """
  if 'name' in header.options:
    raise ValueError('its options contain another name')
  config = models.create_model(header.name, **header.options).config
  # Later, a network is traced block by block.
  if sum(config.depth) > num_tensors:
    raise ValueError(f'depth is {config.depth} for {num_tensors} arrays')


def join(params: tree.Flat, state: tree.Flat) -> tree.Flat:
  """Merges parameters and state into the tensors of one file."""
  return {f'params/{path}': array for path, array in params.items()} | {
    f'state/{path}': array for path, array in state.items()
  }


def split(tensors: tree.Flat) -> tuple[tree.Flat, tree.Flat]:
  """Splits tensors into parameters and state, the inverse of `join`.

  Tensors with neither prefix count as parameters.
  """
  state = {
    name.removeprefix('state/'): array
    for name, array in tensors.items()
    if name.startswith('state/')
  }
  params = {
    name.removeprefix('params/'): array
    for name, array in tensors.items()
    if not name.startswith('state/')
  }
  return params, state
