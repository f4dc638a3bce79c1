"""What a safetensors file of ours says besides its arrays.

Everything that is not an array and that changes the logits: the model's name
and its whole config, and the constants that a runtime without this package
would have to know. safetensors keeps strings only, hence JSON.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nfnets import errors
from nfnets.layers import activations, squeeze_excite, ws_conv
from nfnets.models import config as model_config
from nfnets.models import scaling
from nfnets.weights import files, timm_names, tree

_FORMAT = 'nfnets 1'


class Header(NamedTuple):
  """What a file tells about its network."""

  name: str
  options: dict[str, Any]  # of create_model
  class_names: tuple[str, ...]
  eval_preset: str  # see `data.crops.eval_crop`


def is_ours(metadata: Mapping[str, str]) -> bool:
  """Whether `make` wrote this metadata."""
  return metadata.get('format', '').startswith('nfnets')


def make(
  config: model_config.ModelConfig,
  class_names: Sequence[str] = (),
  eval_preset: str | None = None,
) -> dict[str, str]:
  """The metadata of a file of weights.

  Args:
    config: of the model.
    class_names: one per class, or none.
    eval_preset: how images were cut when the network was evaluated; None is
      the way of the model's authors.

  Returns:
    Strings: 'format', 'model', 'eval_preset', and as JSON 'options' (with
    which `create_model` makes the config again), 'config', 'constants' and
    'class_names'.
  """
  return {
    'format': _FORMAT,
    'model': config.name,
    'options': json.dumps(tree.options(config), sort_keys=True),
    'config': json.dumps(dataclasses.asdict(config), sort_keys=True),
    'constants': json.dumps(_constants(config), sort_keys=True),
    'class_names': json.dumps(list(class_names)),
    'eval_preset': eval_preset or published_preset(config),
  }


def published_preset(config: model_config.ModelConfig) -> str:
  """How the authors of a model cut images, see `data.crops.eval_crop`."""
  if timm_names.timm_name(config.name) not in (None, f'dm_{config.name}'):
    return 'timm'
  return 'deepmind' if config.family == 'NFNet' else 'deepmind_crop'


def _constants(config: model_config.ModelConfig) -> dict[str, Any]:
  """The numbers of the forward pass that stand in no array."""
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
  """Reads what `make` wrote.

  Args:
    contents: of a file that `is_ours`.
    path: of the file, for messages.

  Returns:
    The model's name, its options and its class names.

  Raises:
    UserError: it was written by a newer version, or is damaged.
  """
  metadata = contents.metadata
  if not contents.sealed:
    raise errors.UserError(
      f'{path}: damaged: its SHA-256 is missing; fetch or write it again'
    )
  if metadata['format'] != _FORMAT:
    raise errors.UserError(
      f'{path}: its format is {metadata["format"]!r:.40}, expected '
      f'{_FORMAT!r}; it may need a newer nfnets'
    )
  try:
    written = json.loads(metadata['options'])
    names = json.loads(metadata['class_names'])
    options = {
      key: tuple(value) if isinstance(value, list) else value
      for key, value in written.items()
    }
    return Header(
      metadata['model'],
      options,
      tuple(map(str, names)),
      metadata['eval_preset'],
    )
  except (KeyError, ValueError, TypeError, AttributeError) as error:
    raise errors.UserError(
      f'{path}: damaged metadata ({type(error).__name__}: {error!s:.80}); '
      'write it again'
    ) from None


def join(params: tree.Flat, state: tree.Flat) -> tree.Flat:
  """Parameters and state as the tensors of one file."""
  return {f'params/{path}': array for path, array in params.items()} | {
    f'state/{path}': array for path, array in state.items()
  }


def split(tensors: tree.Flat) -> tuple[tree.Flat, tree.Flat]:
  """The inverse of `join`; what is in neither part counts as a parameter."""
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
